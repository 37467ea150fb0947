import Daemon
import Glibc
import Linux
import Liveness
import Synchronization
import SystemPackage
import TownFS

/// A line of `.pulse/events`, without its evidence.
struct TownEvent: Decodable {
    var seq: UInt64?
    var time: String?
    /// `touched`, `expired`, `exited`, `forgotten`, `resumed`, `contested`, `mirror_up`, `mirror_down`, `lost`, or another of a newer
    /// worker.
    var event: String
    var runtime: String?
    /// The runtime for which another one touched.
    var onBehalfOf: String?
    /// For `contested`: the other agent.
    var otherPid: Int32?
    var otherProgram: String?
    var otherHost: String?
    var reason: String?
    /// For `resumed`: the time without service.
    var seconds: Double?
    /// For `lost`: the first and last sequence number of events that a slow reader missed.
    var from: UInt64?
    var to: UInt64?

    /// One printable line for the user, from a line of the file; nil if it is not an event.
    static func printable(_ json: String) -> String? {
        // The keys of the evidence are beside the others.
        guard let event: TownEvent = JSONText.decode(json), let evidence: RuntimeReport.Evidence = JSONText.decode(json)
        else { return nil }
        return event.line(with: evidence)
    }

    private func line(with evidence: RuntimeReport.Evidence) -> String {
        let missed = from.flatMap { from in to.map { "events \(from) to \($0), which were not read in time" } }
        let words = [time ?? "-", TerminalText.fitted(TerminalText.printable(event), to: max(11, event.count))]
        let gap = seconds.map { "after \($0) s without service" }
        let other = [otherProgram, otherPid.map { "\($0)" }, otherHost.map { "on \($0)" }].compactMap { $0 }
        let details = [
            runtime ?? "", onBehalfOf.map { "on behalf of \($0)" } ?? "", evidence.words(on: ""),
            other.isEmpty ? "" : "and " + other.joined(separator: " "), reason ?? "", gap ?? "", missed ?? "",
        ].filter { !$0.isEmpty }
        var line = TerminalText.printable((words + details).joined(separator: "  "))[...]
        while line.last == " " { line.removeLast() }
        return String(line)
    }
}

/// Follows `.pulse/events` and the runtimes of a mounted town on its own thread.
///
/// Only that thread enters the mount. If the town hangs, the thread hangs; `look` still returns the last state, and says
/// how long the town has been silent. The thread goes on when the viewer has looked, so the viewer sets the pace.
final class TownFollower: Sendable {
    enum Interest: Sendable {
        /// Runtimes and mirror, for a table.
        case table
        /// Lines of `.pulse/events`, as they are.
        case events
    }

    /// The state of a town for its viewer.
    struct State: Sendable {
        var rows: [RuntimeID: WatchScreen.Row] = [:]
        var mirror: MirrorStatus?
        /// A problem of the whole town.
        var trouble: String?
        /// Events since the last look.
        var lines: [Substring] = []
        fileprivate var hasRead = false
        fileprivate var lastAnswer = ContinuousClock.now

        /// Nothing has been read yet.
        var isBlank: Bool { !hasRead && trouble == nil }
    }

    /// After this time without an answer, the town counts as silent.
    private static let silenceLimit: Duration = .seconds(3)
    /// The longest time between two looks at the town.
    private static let tick: Duration = .seconds(1)
    /// Reading pauses until the viewer has taken these.
    private static let maximumLines = 4096

    /// Signalled when there is something new.
    let changed: EventFD
    private let looked: EventFD
    /// For poll(2): POLLPRI reports a mount or unmount since the last poll (proc(5)).
    private let mountTable: OwnedDescriptor
    private let town: String
    private let interest: Interest
    private let state = Mutex(State())

    /// - Parameter town: Absolute, without symbolic links.
    init(of town: String, for interest: Interest) throws(Errno) {
        self.town = town
        self.interest = interest
        changed = try EventFD()
        looked = try EventFD()
        mountTable = try OwnedDescriptor(opening: "/proc/self/mountinfo", in: AT_FDCWD, O_RDONLY)
    }

    /// The current state, with each line once.
    func look() -> State {
        defer { looked.signal() }
        return state.withLock { state in
            defer { state.lines = [] }
            var seen = state
            let silence = ContinuousClock.now - state.lastAnswer
            if silence > Self.silenceLimit {
                seen.trouble = "\(town) has not answered for \(describe(seconds: silence / .seconds(1)))"
            }
            return seen
        }
    }

    /// Call it after this process was stopped: the town was not silent.
    func resetSilence() {
        state.withLock { $0.lastAnswer = .now }
    }

    // MARK: On its thread

    func start() throws(Errno) {
        _ = try Thread(named: "follower") { [self] in
            while true {
                let trouble = followUntilTrouble()
                state.withLock {
                    $0.lastAnswer = .now
                    $0.trouble = trouble
                }
                changed.signal()
                // Other troubles end without a mount or unmount.
                var question = [pollfd(fd: mountTable.rawValue, events: Int16(POLLPRI), revents: 0)]
                poll(&question, until: .now + .milliseconds(500))
            }
        }
    }

    private func followUntilTrouble() -> String {
        do throws(Errno) {
            if let mount = try MountTable().town(at: town) { try follow(mount) }
            return "\(town) is not mounted any more"
        } catch .socketNotConnected, .connectionAbort {
            return "keeper and worker of \(town) have ended: 'pulsefs mount' repairs it"
        } catch {
            return "\(town) answers with an error: \(error)"
        }
    }

    /// Returns when the mount is gone.
    private func follow(_ mount: MountInfo) throws(Errno) {
        // Opened before anything is read, so that no change is missed.
        let events = try OwnedDescriptor(
            opening: "\(mount.town)/.pulse/events", in: AT_FDCWD, O_RDONLY | O_NONBLOCK)
        var stale = Stale(everything: true)
        var rest: [UInt8] = []
        while true {
            if interest == .table {
                try refresh(stale, of: mount)
                stale = Stale()
            }
            state.withLock {
                $0.lastAnswer = .now
                $0.hasRead = true
                $0.trouble = nil
            }
            changed.signal()
            let limit = ContinuousClock.now + Self.tick
            looked.wait(until: limit)
            var question = [pollfd(fd: events.rawValue, events: Int16(POLLIN), revents: 0)]
            if poll(&question, until: limit) { try read(events, into: &rest, &stale) }
            // Our open file must not keep a detached mount alive.
            guard try MountTable().current(mount) != nil else { return }
        }
    }

    /// Runtimes to read again.
    private struct Stale {
        var everything = false
        var runtimes: Set<RuntimeID> = []
    }

    /// Reads the available events, as far as there is room.
    ///
    /// - Parameter rest: The beginning of an incomplete line.
    private func read(
        _ events: borrowing OwnedDescriptor, into rest: inout [UInt8], _ stale: inout Stale
    ) throws(Errno) {
        var block = [UInt8](repeating: 0, count: 64 << 10)
        while state.withLock({ $0.lines.count }) < Self.maximumLines {
            let count: Int
            do throws(Errno) {
                count = try retryingInterrupts { Glibc.read(events.rawValue, &block, block.count) }
            } catch .wouldBlock {
                return
            }
            // The mount is ending. The mount table will show it.
            guard count > 0 else { return }
            rest += block.prefix(count)
            guard let end = rest.lastIndex(of: UInt8(ascii: "\n")) else { continue }
            let lines = String(decoding: rest[..<end], as: UTF8.self).split(separator: "\n")
            rest.removeSubrange(...end)
            switch interest {
            case .events: state.withLock { $0.lines += lines }
            case .table:
                for line in lines {
                    guard let event: TownEvent = JSONText.decode(String(line)) else { continue }
                    if event.event == "lost" { stale.everything = true }
                    let about = event.runtime ?? event.onBehalfOf
                    if let id = about.flatMap({ try? RuntimeID($0) }) { stale.runtimes.insert(id) }
                }
            }
        }
    }

    private func refresh(_ stale: Stale, of mount: MountInfo) throws(Errno) {
        let runtimes = try OwnedDescriptor(openingPulse: "runtimes", of: mount)
        let status: TownStatus? = JSONText.decode(try mount.statusText())
        // Also those that must have expired, even without an event.
        var ids = state.withLock { state in
            state.mirror = status?.mirror
            return stale.runtimes.union(state.rows.filter { stale.everything || $0.value.isDue }.keys)
        }
        if stale.everything { ids.formUnion(try RuntimeReport.ids(in: runtimes)) }
        for id in ids {
            let runtime = try RuntimeReport.read(id, in: runtimes)
            state.withLock { state in
                state.rows[id] = runtime.map { WatchScreen.Row(runtime: $0, readAt: .now) }
                state.lastAnswer = .now
            }
        }
    }
}

extension WatchScreen.Row {
    /// Whether the runtime's ttl has passed since it was read.
    fileprivate var isDue: Bool {
        guard runtime.isAlive, let left = runtime.ttlLeftSeconds else { return false }
        return .seconds(left) <= ContinuousClock.now - readAt
    }
}
