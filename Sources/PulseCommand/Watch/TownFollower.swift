import CLinux
import Daemon
import Glibc
import Linux
import Liveness
import Synchronization
import SystemPackage
import TownFS

/// Follows a mounted town, on a thread of its own: its `.pulse/events`, and with them its runtimes.
///
/// Everything that touches the mount happens on that thread. If the town is stuck, so is the thread, and nobody else:
/// what it has seen last, and that it has not been heard of for a while, can be asked at any time.
final class TownFollower: Sendable {
    enum Interest: Sendable {
        /// Runtimes and mirror, for a table.
        case table
        /// Lines of `.pulse/events`, as they are.
        case events
    }

    /// What there is to be told.
    struct Seen: Sendable {
        /// Nothing has been heard of the town yet.
        var isBlank = false
        var rows: [WatchScreen.Row] = []
        var mirror: MirrorStatus?
        /// What is wrong with the town as a whole, for as long as it is.
        var trouble: String?
        /// What has come since the last time.
        var lines: [Substring] = []
        /// There will be nothing more.
        var failure: Failure?
    }

    private struct State {
        var rows: [RuntimeID: WatchScreen.Row] = [:]
        var mirror: MirrorStatus?
        var trouble: String?
        var lines: [Substring] = []
        var failure: Failure?
        var hasLooked = false
        var lastSign = ContinuousClock.now
    }

    /// A thread that has not been heard of for so long waits for the town.
    private static let patience: Duration = .seconds(3)
    /// How often a town is looked at when nothing happens.
    private static let tick: Duration = .seconds(1)
    /// How often runtimes are read again when much happens.
    private static let pause: Duration = .milliseconds(250)
    /// More are not fetched before these are taken.
    private static let mostLines = 4096

    /// Raised when there is something new.
    let changed: EventFD
    private let taken: EventFD
    private let town: String
    private let interest: Interest
    private let state = Mutex(State())

    /// - Parameter town: Absolute, without symbolic links.
    init(of town: String, for interest: Interest) throws(Errno) {
        self.town = town
        self.interest = interest
        changed = try EventFD()
        taken = try EventFD()
    }

    func start() throws(Errno) {
        _ = try Thread(named: "follower") { [self] in
            while state.withLock({ $0.failure == nil }) {
                let trouble = followUntilTrouble()
                state.withLock {
                    $0.lastSign = .now
                    $0.trouble = trouble
                }
                changed.raise()
                usleep(500_000)
            }
        }
    }

    /// What is to be told by now; the lines only once.
    func look() -> Seen {
        defer { taken.raise() }
        return state.withLock { state in
            defer { state.lines = [] }
            var seen = Seen(mirror: state.mirror, trouble: state.trouble, lines: state.lines, failure: state.failure)
            if interest == .table { seen.rows = Array(state.rows.values) }
            let silence = ContinuousClock.now - state.lastSign
            if silence > Self.patience {
                seen.trouble = "\(town) has not answered for \(describe(seconds: silence / .seconds(1)))"
            }
            seen.isBlank = !state.hasLooked && seen.trouble == nil
            return seen
        }
    }

    /// To be said when this process itself was stopped: the town is not to blame for the silence.
    func excuse() {
        state.withLock { $0.lastSign = .now }
    }

    // MARK: On its thread

    private func followUntilTrouble() -> String {
        do throws(Errno) {
            guard let mount = try MountTable().town(at: town) else { return "\(town) is not mounted any more" }
            try follow(mount)
            return "\(town) is not mounted any more"
        } catch .socketNotConnected, .connectionAbort {
            return "nobody serves \(town) any more: 'pulsefs mount' heals it"
        } catch {
            return "\(town) answers with an error: \(error)"
        }
    }

    /// Returns when the mount has gone.
    private func follow(_ mount: MountInfo) throws(Errno) {
        // Before anything is read, so that no change falls between.
        let opened = try openEvents(of: mount)
        let hasEvents = opened != nil
        guard hasEvents || interest == .table else {
            return fail("\(mount.town) is served by an older pulsefs, which tells of no events. Mount it anew.")
        }
        // In their place something of which nothing is ever heard.
        let events = opened ?? OwnedDescriptor(takingOwnershipOf: eventfd(0, CInt(EFD_CLOEXEC | EFD_NONBLOCK)))
        var stale = Stale(everything: true)
        var rest: [UInt8] = []
        while true {
            if interest == .table {
                try refresh(stale, of: mount)
                stale = Stale(everything: !hasEvents)
            }
            state.withLock {
                $0.lastSign = .now
                $0.hasLooked = true
                $0.trouble = nil
            }
            changed.raise()
            let limit = ContinuousClock.now + Self.tick
            if interest == .table { usleep(UInt32(Self.pause / .microseconds(1))) }
            var question = [pollfd(fd: events.rawValue, events: Int16(POLLIN), revents: 0)]
            if poll(&question, until: limit) { try read(events, into: &rest, &stale) }
            // An open file keeps a mount that was detached from ending; it shall not be this one.
            guard try MountTable().entry(mount.id) != nil else { return }
        }
    }

    private func fail(_ message: String) {
        state.withLock { $0.failure = Failure(message, .couldNotTell) }
    }

    /// Opens `.pulse/events`; nil where there is none, as a worker from before that was never restarted.
    private func openEvents(of mount: MountInfo) throws(Errno) -> OwnedDescriptor? {
        do throws(Errno) {
            return try OwnedDescriptor(
                opening: "\(mount.town)/.pulse/events", in: AT_FDCWD, O_RDONLY | O_NONBLOCK)
        } catch .noSuchFileOrDirectory {
            return nil
        }
    }

    /// What has to be read again.
    private struct Stale {
        var everything = false
        var runtimes: Set<RuntimeID> = []
    }

    /// Takes what events there are.
    ///
    /// - Parameter rest: The beginning of a line that has not come as a whole.
    private func read(
        _ events: borrowing OwnedDescriptor, into rest: inout [UInt8], _ stale: inout Stale
    ) throws(Errno) {
        var block = [UInt8](repeating: 0, count: 64 << 10)
        while state.withLock({ $0.lines.count }) < Self.mostLines {
            let count: Int
            do throws(Errno) {
                count = try retryingInterrupts {
                    block.withUnsafeMutableBytes { Glibc.read(events.rawValue, $0.baseAddress, $0.count) }
                }
            } catch .wouldBlock {
                return
            }
            // The mount ends; the table of mounts will tell, in a moment.
            guard count > 0 else { break }
            rest += block.prefix(count)
            guard let end = rest.lastIndex(of: UInt8(ascii: "\n")) else { continue }
            let lines = String(decoding: rest[..<end], as: UTF8.self).split(separator: "\n")
            rest.removeSubrange(...end)
            note(lines, &stale)
        }
        taken.wait(until: .now + Self.pause)
    }

    private func note(_ lines: [Substring], _ stale: inout Stale) {
        switch interest {
        case .events:
            state.withLock { $0.lines += lines }
            changed.raise()
        case .table:
            for line in lines {
                guard let event: TownEvent = JSONText.decode(String(line)) else { continue }
                if event.event == "lost" { stale.everything = true }
                if let id = event.runtime.flatMap({ try? RuntimeID($0) }) { stale.runtimes.insert(id) }
            }
        }
    }

    private func refresh(_ stale: Stale, of mount: MountInfo) throws(Errno) {
        let runtimes = try OwnedDescriptor(openingPulse: "runtimes", of: mount)
        let status = try OwnedDescriptor(opening: "\(mount.town)/.pulse/status.json", in: AT_FDCWD, O_RDONLY)
            .readToEnd()
        let mirror = StatusFile.decode(status)?.mirror
        state.withLock { $0.mirror = mirror }
        let known = state.withLock { Set($0.rows.keys) }
        var ids = stale.everything ? known.union(try RuntimeFile.ids(in: runtimes)) : stale.runtimes
        // Whose time is over, even if that has not been told yet.
        ids.formUnion(state.withLock { state in state.rows.filter { Self.isDue($0.value) }.keys })
        for id in ids {
            let runtime = try RuntimeFile.read(id, in: runtimes)
            state.withLock { state in
                state.rows[id] = runtime.map { WatchScreen.Row(runtime: $0, readAt: .now) }
                state.lastSign = .now
            }
        }
    }

    private static func isDue(_ row: WatchScreen.Row) -> Bool {
        guard row.runtime.isAlive, let left = row.runtime.ttlLeftSeconds else { return false }
        return .seconds(left) <= ContinuousClock.now - row.readAt
    }
}
