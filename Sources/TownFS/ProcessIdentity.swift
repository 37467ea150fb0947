import Glibc
import SystemCalls

/// What `/proc` says of the threads that ask.
enum ProcessIdentity {
    /// Whether two threads belong to one process.
    ///
    /// Threads of another pid namespace all carry the number 0 and are taken for one process.
    static func isSame(_ first: pid_t, _ second: pid_t) -> Bool {
        if first == second { return true }
        guard first != 0, second != 0, let process = process(of: first) else { return false }
        return process == self.process(of: second)
    }

    /// The process (`Tgid` in proc(5)) of a thread; nil when it has ended.
    static func process(of thread: pid_t) -> pid_t? {
        guard let file = try? OwnedDescriptor(opening: "/proc/\(thread)/status", in: AT_FDCWD, O_RDONLY) else {
            return nil
        }
        // Tgid is among the first few lines, well within this.
        let text = [UInt8](unsafeUninitializedCapacity: 512) { room, count in
            count = (try? retryingInterrupts { read(file.rawValue, room.baseAddress, room.count) }) ?? 0
        }
        let line = text.split(separator: UInt8(ascii: "\n")).first { $0.starts(with: "Tgid:".utf8) }
        return line.flatMap { pid_t(String(decoding: $0.dropFirst(6), as: UTF8.self)) }
    }
}
