import CLinux
import Fuse
import Glibc
import Linux
import Liveness
import Logging
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import Fuse
@testable import TownFS

extension Request {
    /// A request of the calling thread, or of the process that it poses as.
    static var me: Request {
        let thread = gettid()
        return Request(user: getuid(), group: getgid(), thread: disguises.withLock { $0[thread] } ?? thread)
    }

    private static let disguises = Mutex<[pid_t: pid_t]>([:])

    /// Makes the calling thread pose as a process of its own while `body` runs.
    static func asProcess(_ number: Int, _ body: () -> Void) {
        let thread = gettid()
        // Beyond any that the kernel gives out.
        disguises.withLock { $0[thread] = pid_t(1 << 30 + number) }
        body()
        disguises.withLock { $0[thread] = nil }
    }

    /// A request of another process: process 1.
    static let other = Request(user: getuid(), group: getgid(), thread: 1)
}

// MARK: - Clocks

extension Town.Timestamps {
    init(_ clock: FakeClock) {
        let (wall, instant) = clock.both
        self.init(wall: wall, instant: instant)
    }
}

extension Logger {
    static var silent: Logger { Logger(label: "test") { _ in SwiftLogNoOpLogHandler() } }
}

// MARK: - Names

extension [UInt8] {
    /// Calls `body` with the bytes as a borrowed file name.
    func asFileName<Result>(_ body: (FileName) throws(Errno) -> Result) throws(Errno) -> Result {
        try NodeName(self).withPointer { (name) throws(Errno) in try body(FileName(borrowing: name)) }
    }
}
