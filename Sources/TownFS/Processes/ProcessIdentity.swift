import Glibc

/// Whether threads that ask are of one process.
enum ProcessIdentity {
    /// Threads of another pid namespace all carry the number 0 and are taken for one process.
    static func isSame(_ first: pid_t, _ second: pid_t) -> Bool {
        if first == second { return true }
        guard first != 0, second != 0, let process = ProcessFiles(number: first).process() else { return false }
        return process == ProcessFiles(number: second).process()
    }
}
