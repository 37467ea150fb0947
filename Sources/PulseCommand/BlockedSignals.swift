import CLinux
import Glibc
import Linux
import SystemPackage

extension OwnedDescriptor {
    /// Blocks signals in this thread and those that it starts, and has them read instead.
    ///
    /// Does not wait when it is read.
    ///
    /// The corresponding C function is `signalfd`.
    init(blocking signals: [CInt]) throws(Errno) {
        var set = sigset_t()
        sigemptyset(&set)
        for signal in signals { sigaddset(&set, signal) }
        sigprocmask(SIG_BLOCK, &set, nil)
        self.init(takingOwnershipOf: try retryingInterrupts { signalfd(-1, &set, CInt(SFD_CLOEXEC | SFD_NONBLOCK)) })
    }

    /// The next of the blocked signals; nil when none has come.
    func nextSignal() -> CInt? {
        var info = signalfd_siginfo()
        let count = read(rawValue, &info, MemoryLayout.size(ofValue: info))
        return count == MemoryLayout.size(ofValue: info) ? CInt(info.ssi_signo) : nil
    }
}
