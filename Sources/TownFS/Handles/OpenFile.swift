import Fuse
import Glibc
import Synchronization
import SystemPackage

/// One opening of a file, and what requests about it are done to.
final class OpenFile: Sendable {
    enum Target: Sendable {
        case backing(BackingFile)
        case signal(SignalHandle)
        /// A file that is made up when it is opened.
        case text([UInt8])
        case alive(AliveHandle)
        case events(EventReader)
    }

    let inode: InodeNumber
    /// The thread that opened it, where that matters.
    let thread: pid_t
    private struct State {
        var target: Target
        /// Which way the bytes go, once that is settled.
        var path: OpenReply.IOMode?
        /// What the kernel goes on to write to by itself, though the name has become a signal file's.
        var leftBehind: LeftBehind?
    }

    /// A file that was open and lent when it was renamed onto a signal file.
    struct LeftBehind: Sendable {
        let file: BackingFile
        /// What it held then.
        let bytes: [UInt8]
    }

    private let state: Mutex<State>

    init(_ inode: InodeNumber, _ target: Target, thread: pid_t = 0) {
        self.inode = inode
        self.thread = thread
        state = Mutex(State(target: target))
    }

    var target: Target { state.withLock { $0.target } }

    /// Which way the bytes go, once that has been settled and counted.
    var path: OpenReply.IOMode? { state.withLock { $0.path } }

    /// Settles which way the bytes go.
    func settle(_ path: OpenReply.IOMode) {
        state.withLock { $0.path = path }
    }

    /// Settles which way the bytes of a backing file go.
    ///
    /// - Returns: That way; or one on which all comes to us, if it is something else by now.
    func settle(_ path: OpenReply.IOMode, as file: BackingFile) -> OpenReply.IOMode {
        state.withLock { state in
            var path = path
            if case .backing(let current) = state.target, current === file {
                // As it was when the way was chosen.
            } else if case .passthrough(let backingID, _) = path {
                path = .passthrough(backingID, directIO: true)
            } else {
                path = .direct
            }
            state.path = path
            return path
        }
    }

    /// Puts another target in the place of this one, for a file that has been renamed onto a signal file or away from
    /// it while it was open.
    ///
    /// - Parameter leaving: What the former one held, for a file that becomes a signal file.
    func retarget(_ target: Target, leaving bytes: [UInt8]? = nil) {
        // The former one is let go of outside the lock: with it may go a descriptor.
        let former = state.withLock { state in
            if let bytes, case .passthrough(_, directIO: false) = state.path, case .backing(let file) = state.target,
                file.isWritable
            {
                state.leftBehind = LeftBehind(file: file, bytes: bytes)
            }
            defer { state.target = target }
            return state.target
        }
        withExtendedLifetime(former) {}
    }

    /// What was left behind, if anything.
    var leftBehind: LeftBehind? { state.withLock { $0.leftBehind } }
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
