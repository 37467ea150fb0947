import Glibc
import Linux
import Liveness
import Synchronization

/// The caller that opened or changed a signal file, and the runtime of its touch.
///
/// Determined before the close: execve(2) closes files while it holds `exec_update_lock`, which reads of `/proc/<pid>`
/// need, and waits for the reply.
struct AttributedCaller: Sendable {
    let caller: ProcessInfo
    /// Without considering the document.
    let attribution: Attribution
}

/// A thread and its identity claims, valid while it runs one program.
final class ProcessInfo: Sendable {
    let thread: pid_t
    /// The parent when the thread was first read.
    let parent: pid_t
    let process: Touch.Process
    let claims: IdentityClaims
    /// Whether its file operations are no sign of life.
    let isIgnored: Bool
    /// The program image of the thread.
    let image: ProcessStat.Image
    /// `/proc/<thread>/stat`, opened; never refers to another thread.
    private let stat: Descriptor
    /// Hash of the last runtime touched (upper half) and the second (lower half).
    private let lastTouch = Atomic<UInt64>(0)

    /// - Parameters:
    ///   - parent: Its claims and its being ignored extend to children.
    ///   - ignored: Names of programs.
    init(_ reading: Snapshot, startedBy parent: ProcessInfo?, ignoring ignored: Set<String>) {
        thread = reading.thread
        stat = reading.file
        image = reading.stat.image
        self.parent = reading.stat.parent
        process = Touch.Process(pid: reading.process, program: reading.program)
        claims = parent.map { reading.claims.started(by: $0.claims) } ?? reading.claims
        isIgnored =
            ignored.contains(reading.program) || ignored.contains(reading.name) || parent?.isIgnored == true
    }

    /// The state of a thread, read from `/proc` at one time.
    struct Snapshot: Sendable {
        let thread: pid_t
        let process: pid_t
        let stat: ProcessStat
        let claims: IdentityClaims
        /// The name of the process, not of the thread.
        fileprivate let program: String
        /// The full name that it was started by.
        fileprivate let name: String
        fileprivate let file: Descriptor

        /// Nil if there is no such thread or it cannot be read.
        init?(of thread: pid_t, _ rules: IdentityRules) {
            let files = ProcessFiles(number: thread)
            guard let file = try? Descriptor(files.open("stat")) else { return nil }
            while true {
                guard let before = ProcessFiles.stat(file.rawValue), let process = files.process() else { return nil }
                let (claims, name) = files.claims(rules)
                // After an execve(2) in between, the files may be of different programs.
                guard let after = ProcessFiles.stat(file.rawValue) else { return nil }
                guard before.image == after.image else { continue }
                self.thread = thread
                self.process = process
                self.claims = claims
                self.name = name
                let leader = process == thread ? after : ProcessFiles(number: process).stat()
                program = leader?.program ?? after.program
                self.file = file
                stat = after
                return
            }
        }
    }

    /// How long its process has run.
    var age: Duration {
        if process.pid == thread { return ClockTicks.age(since: image.startTime) }
        return ProcessFiles(number: process.pid).stat().map { ClockTicks.age(since: $0.image.startTime) } ?? .zero
    }

    /// Whether this is its first touch of the runtime in this second.
    func isFirstTouch(of runtime: RuntimeID) -> Bool {
        let mark = UInt64(UInt32(truncatingIfNeeded: runtime.hashValue)) << 32 | UInt64(ActivityFilter.second)
        return lastTouch.exchange(mark, ordering: .relaxed) != mark
    }

    enum Condition {
        /// It runs the same program.
        case same
        /// It runs another program.
        case changed
        case gone
    }

    var condition: Condition {
        guard let now = ProcessFiles.stat(stat.rawValue), !now.isZombie else { return .gone }
        if now.image == image { return .same }
        // A process that is ending still closes its files.
        let isEnding = now.image.isWithoutMemory && !image.isWithoutMemory
        return isEnding && now.image.startTime == image.startTime ? .same : .changed
    }
}
