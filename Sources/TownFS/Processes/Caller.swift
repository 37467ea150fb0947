import Glibc
import Liveness
import SystemCalls

/// A thread that has asked for something, and who it says it is: as read once, for as long as it runs one program.
final class Caller: Sendable {
    let thread: pid_t
    /// As it was when it was first seen.
    let parent: pid_t
    let process: Touch.Process
    let writer: Writer
    /// Whether its work on files is no sign of anybody's life.
    let isIgnored: Bool
    /// Of the thread.
    let image: ProcessStat.Image
    /// `/proc/<thread>/stat`, which goes on to mean this thread and no other.
    private let stat: OwnedDescriptor

    /// Nil when there is no such thread, or it cannot be seen.
    ///
    /// - Parameter ignored: Names of programs.
    init?(thread: pid_t, ignoring ignored: Set<String>) {
        let files = ProcessFiles(number: thread)
        guard let stat = try? files.open("stat") else { return nil }
        while true {
            guard let before = ProcessFiles.stat(stat.rawValue), let process = files.process() else { return nil }
            let (writer, name) = files.writer()
            // Between two programs it may have shown something of both.
            guard let after = ProcessFiles.stat(stat.rawValue) else { return nil }
            guard before.image == after.image else { continue }
            self.thread = thread
            self.stat = stat
            self.writer = writer
            self.process = Touch.Process(pid: process, program: after.program)
            parent = after.parent
            image = after.image
            isIgnored = ignored.contains(after.program) || ignored.contains(name)
            return
        }
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
