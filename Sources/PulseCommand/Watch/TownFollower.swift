import CLinux
import Daemon
import Glibc
import Linux
import Liveness
import Synchronization
import SystemPackage
import TownFS

/// Follows `.pulse/events` and the runtimes of a mounted town on its own thread.
///
/// Only that thread enters the mount. If the town hangs, the thread hangs; `look` still returns the last state, and says
/// how long the town has been silent.
final class TownFollower: Sendable {
    enum Interest: Sendable {
        /// Runtimes and mirror, for a table.
        case table
        /// Lines of `.pulse/events`, as they are.
        case events
    }

    /// The state of a town for its viewer.
    struct Seen: Sendable {
        /// Nothing has been read yet.
        var isBlank = false
        var rows: [WatchScreen.Row] = []
        var mirror: MirrorStatus?
        /// A problem of the whole town.
        var trouble: String?
        /// Events since the last call.
        var lines: [Substring] = []
        /// The follower has ended.
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

    /// After this time without an answer, the town counts as silent.
    private static let silenceLimit: Duration = .seconds(3)
    /// The longest time between two looks at the town.
    private static let tick: Duration = .seconds(1)
    /// The shortest time between two refreshes of runtimes.
    private static let pause: Duration = .milliseconds(250)
    /// Reading pauses until the viewer has taken these.
    private static let maximumLines = 4096

    /// Signalled when there is something new.
    let changed: EventFD
    private let linesConsumed: EventFD
    private let town: String
    private let interest: Interest
    private let state = Mutex(State())

    /// - Parameter town: Absolute, without symbolic links.
    init(of town: String, for interest: Interest) throws(Errno) {
        self.town = town
        self.interest = interest
        changed = try EventFD()
        linesConsumed = try EventFD()
    }

    func start() throws(Errno) {
        _ = try Thread(named: "follower") { [self] in
            while state.withLock({ $0.failure == nil }) {
                let trouble = followUntilTrouble()
                state.withLock {
                    $0.lastSign = .now
                    $0.trouble = trouble
                }
                changed.signal()
                usleep(500_000)
            }
        }
    }

    /// The current state.
    ///
    /// Returns each line once.
    func look() -> Seen {
        defer { linesConsumed.signal() }
        return state.withLock { state in
            defer { state.lines = [] }
            var seen = Seen(mirror: state.mirror, trouble: state.trouble, lines: state.lines, failure: state.failure)
            if interest == .table { seen.rows = Array(state.rows.values) }
            let silence = ContinuousClock.now - state.lastSign
            if silence > Self.silenceLimit {
                seen.trouble = "\(town) has not answered for \(describe(seconds: silence / .seconds(1)))"
            }
            seen.isBlank = !state.hasLooked && seen.trouble == nil
            return seen
        }
    }

    /// Call it after this process was stopped: the town was not silent.
    func resetSilence() {
        state.withLock { $0.lastSign = .now }
    }

    // MARK: On its thread

    private func followUntilTrouble() -> String {
        do throws(Errno) {
            guard let mount = try MountTable().town(at: town) else { return "\(town) is not mounted any more" }
            try follow(mount)
            return "\(town) is not mounted any more"
        } catch .socketNotConnected, .connectionAbort {
            return "nobody serves \(town) any more: 'pulsefs mount' repairs it"
        } catch {
            return "\(town) answers with an error: \(error)"
        }
    }

    /// Returns when the mount is gone.
    private func follow(_ mount: MountInfo) throws(Errno) {
        // Opened before anything is read, so that no change is missed.
        let opened = try openEvents(of: mount)
        let hasEvents = opened != nil
        guard hasEvents || interest == .table else {
            return fail("\(mount.town) is served by an older pulsefs, without events. Unmount and mount it.")
        }
        // Otherwise a descriptor that never becomes readable.
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
            changed.signal()
            let limit = ContinuousClock.now + Self.tick
            if interest == .table { usleep(UInt32(Self.pause / .microseconds(1))) }
            var question = [pollfd(fd: events.rawValue, events: Int16(POLLIN), revents: 0)]
            if poll(&question, until: limit) { try read(events, into: &rest, &stale) }
            // Our open file must not keep a detached mount alive.
            guard try MountTable().current(mount) != nil else { return }
        }
    }

    private func fail(_ message: String) {
        state.withLock { $0.failure = Failure(message, .couldNotTell) }
    }

    /// Opens `.pulse/events`; nil if the worker is too old to have it.
    private func openEvents(of mount: MountInfo) throws(Errno) -> OwnedDescriptor? {
        do throws(Errno) {
            return try OwnedDescriptor(
                opening: "\(mount.town)/.pulse/events", in: AT_FDCWD, O_RDONLY | O_NONBLOCK)
        } catch .noSuchFileOrDirectory {
            return nil
        }
    }

    /// Runtimes to read again.
    private struct Stale {
        var everything = false
        var runtimes: Set<RuntimeID> = []
    }

    /// Reads the available events.
    ///
    /// - Parameter rest: The beginning of an incomplete line.
    private func read(
        _ events: borrowing OwnedDescriptor, into rest: inout [UInt8], _ stale: inout Stale
    ) throws(Errno) {
        var block = [UInt8](repeating: 0, count: 64 << 10)
        while state.withLock({ $0.lines.count }) < Self.maximumLines {
            let count: Int
            do throws(Errno) {
                count = try retryingInterrupts {
                    block.withUnsafeMutableBytes { Glibc.read(events.rawValue, $0.baseAddress, $0.count) }
                }
            } catch .wouldBlock {
                return
            }
            // The mount is ending. The mount table will show it.
            guard count > 0 else { break }
            rest += block.prefix(count)
            guard let end = rest.lastIndex(of: UInt8(ascii: "\n")) else { continue }
            let lines = String(decoding: rest[..<end], as: UTF8.self).split(separator: "\n")
            rest.removeSubrange(...end)
            append(lines, &stale)
        }
        linesConsumed.wait(until: .now + Self.pause)
    }

    private func append(_ lines: [Substring], _ stale: inout Stale) {
        switch interest {
        case .events:
            state.withLock { $0.lines += lines }
            changed.signal()
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
        // Also those that must have expired, even without an event.
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
