import CLinux
import Glibc
import SystemPackage

extension OwnedDescriptor {
    /// Blocks termination signals in this thread and in those that it starts, and delivers them to this descriptor.
    ///
    /// Reads do not block.
    ///
    /// The corresponding C function is `signalfd`.
    package init(blocking signals: [CInt]) throws(Errno) {
        var set = sigset_t()
        sigemptyset(&set)
        for signal in signals { sigaddset(&set, signal) }
        sigprocmask(SIG_BLOCK, &set, nil)
        self.init(takingOwnershipOf: try retryingInterrupts { signalfd(-1, &set, CInt(SFD_CLOEXEC | SFD_NONBLOCK)) })
    }

    /// The next signal of a signalfd; nil if none is pending.
    package func nextSignal() -> CInt? {
        var info = signalfd_siginfo()
        let count = read(rawValue, &info, MemoryLayout.size(ofValue: info))
        return count == MemoryLayout.size(ofValue: info) ? CInt(info.ssi_signo) : nil
    }
}
