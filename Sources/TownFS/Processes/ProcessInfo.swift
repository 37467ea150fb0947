import Glibc
import Linux
import Liveness
import Synchronization

/// Somebody who has opened, written or changed a signal file, and whose touch that is, as of then.
///
/// When the file is closed nobody may be looked at any more. execve(2) closes files too, holding a lock of the process
/// (`exec_update_lock`) that most of `/proc/<pid>` takes, and waits for our answer with it.
struct AttributedCaller: Sendable {
    let caller: ProcessInfo
    /// As far as it can be said without the document.
    let attribution: Attribution
}

/// A thread that has asked for something, and who it says it is: as read once, for as long as it runs one program.
final class ProcessInfo: Sendable {
    let thread: pid_t
    /// As it was when it was first seen.
    let parent: pid_t
    let process: Touch.Process
    let writer: IdentityClaims
    /// Whether its work on files is no sign of anybody's life.
    let isIgnored: Bool
    /// Of the thread.
    let image: ProcessStat.Image
    /// `/proc/<thread>/stat`, which goes on to mean this thread and no other.
    private let stat: Descriptor
    /// Whom it has touched last in the upper half, and in which second in the lower.
    private let touched = Atomic<UInt64>(0)

    /// - Parameters:
    ///   - parent: Whoever has started it; what holds for them may hold for it.
    ///   - ignored: Names of programs.
    init(_ reading: Snapshot, startedBy parent: ProcessInfo?, ignoring ignored: Set<String>) {
        thread = reading.thread
        stat = reading.file
        image = reading.stat.image
        self.parent = reading.stat.parent
        process = Touch.Process(pid: reading.process, program: reading.program)
        writer = parent.map { reading.writer.started(by: $0.writer) } ?? reading.writer
        isIgnored =
            ignored.contains(reading.program) || ignored.contains(reading.name) || parent?.isIgnored == true
    }

    /// What `/proc` says of a thread at one moment.
    struct Snapshot: Sendable {
        let thread: pid_t
        let process: pid_t
        let stat: ProcessStat
        let writer: IdentityClaims
        /// What the process calls itself: its threads may have names of their own.
        fileprivate let program: String
        /// What it was started as, in full.
        fileprivate let name: String
        fileprivate let file: Descriptor

        /// Nil when there is no such thread, or it cannot be seen.
        init?(of thread: pid_t) {
            let files = ProcessFiles(number: thread)
            guard let file = try? Descriptor(files.open("stat")) else { return nil }
            while true {
                guard let before = ProcessFiles.stat(file.rawValue), let process = files.process() else { return nil }
                let (writer, name) = files.writer()
                // Between two programs it may have shown something of both.
                guard let after = ProcessFiles.stat(file.rawValue) else { return nil }
                guard before.image == after.image else { continue }
                self.thread = thread
                self.process = process
                self.writer = writer
                self.name = name
                let leader = process == thread ? after : ProcessFiles(number: process).stat()
                program = leader?.program ?? after.program
                self.file = file
                stat = after
                return
            }
        }
    }

    /// Whether this is the first touch of the runtime by it in this second, if it touches none but that.
    func isNews(of runtime: RuntimeID) -> Bool {
        let mark = UInt64(UInt32(truncatingIfNeeded: runtime.hashValue)) << 32 | UInt64(ActivityFilter.second)
        return touched.exchange(mark, ordering: .relaxed) != mark
    }

    enum Condition {
        /// It runs what it ran.
        case same
        /// It has become another program.
        case changed
        case gone
    }

    var condition: Condition {
        guard let now = ProcessFiles.stat(stat.rawValue), !now.isZombie else { return .gone }
        if now.image == image { return .same }
        // What it had open is closed for it as it ends, and it is still who it was.
        let isEnding = now.image.isWithoutMemory && !image.isWithoutMemory
        return isEnding && now.image.startTime == image.startTime ? .same : .changed
    }
}
