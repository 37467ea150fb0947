import Fuse
import Glibc
import Synchronization
import SystemPackage

/// One opening of a file, and what requests about it are done to.
final class OpenFile: Sendable {
    enum Target: Sendable {
        /// A file of the backing tree, opened with the caller's flags.
        case backing(Descriptor)
        case signal(SignalHandle)
        /// A file that is made up when it is opened.
        case text([UInt8])
        case alive(AliveHandle)
        case events(EventReader)
    }

    let inode: InodeNumber
    /// The thread that opened it, where that matters.
    let thread: pid_t
    private let current: Mutex<Target>

    init(_ inode: InodeNumber, _ target: Target, thread: pid_t = 0) {
        self.inode = inode
        self.thread = thread
        current = Mutex(target)
    }

    var target: Target { current.withLock { $0 } }

    /// Puts another target in the place of this one, for a file that has been renamed onto a signal file or away from
    /// it while it was open.
    func retarget(_ target: Target) {
        // The former one is let go of outside the lock: with it may go a descriptor.
        let former = current.withLock { current in
            defer { current = target }
            return current
        }
        withExtendedLifetime(former) {}
    }
}

/// A table from file handles to what they stand for.
final class HandleTable<Opened: AnyObject & Sendable>: Sendable {
    private struct State {
        var opened: [FileHandle: Opened] = [:]
        var next: UInt64 = 1
    }

    private let state = Mutex(State())

    func insert(_ opened: Opened) -> FileHandle {
        state.withLock { state in
            let handle = FileHandle(rawValue: state.next)
            state.next += 1
            state.opened[handle] = opened
            return handle
        }
    }

    /// EBADF for a handle that was never given out, or has been released.
    subscript(_ handle: FileHandle) -> Opened {
        get throws(Errno) {
            guard let opened = state.withLock({ $0.opened[handle] }) else { throw .badFileDescriptor }
            return opened
        }
    }

    func remove(_ handle: FileHandle) -> Opened? {
        state.withLock { $0.opened.removeValue(forKey: handle) }
    }

    var all: [Opened] { state.withLock { Array($0.opened.values) } }

    var count: Int { state.withLock { $0.opened.count } }
}
