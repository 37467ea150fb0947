import CLinux
import Fuse
import Glibc
import Synchronization
import SystemPackage

/// A file of the backing tree that somebody has open.
///
/// For one that is only read, and whose bytes the kernel may be lent, a descriptor of ours is opened when an operation
/// comes that needs one, which few ever do.
final class BackingFile: Sendable {
    private struct State {
        var opened: Descriptor?
    }

    /// The file itself, whatever its name; `O_PATH` is enough.
    let path: Descriptor
    /// The caller's, as for open(2).
    let flags: CInt
    private let state: Mutex<State>

    /// - Parameters:
    ///   - opened: Opened with the caller's flags.
    ///   - path: The same file as `O_PATH`, if there is such a descriptor.
    init(_ opened: Descriptor, of path: Descriptor? = nil, flags: CInt) {
        self.path = path ?? opened
        self.flags = flags
        state = Mutex(State(opened: opened))
    }

    /// To be opened for reading if need be.
    init(reading path: Descriptor) {
        self.path = path
        flags = O_RDONLY
        state = Mutex(State())
    }

    var isWritable: Bool { flags & O_ACCMODE != O_RDONLY }

    /// Whether it can be mapped so that its bytes change without a write.
    var isMappable: Bool { flags & O_ACCMODE == O_RDWR }

    /// Whether the kernel would not do quite the same by itself.
    ///
    /// It would go on appending after fcntl(2) has taken the flag away, and leave set-id bits to us; and what the file system
    /// beneath thinks of direct I/O is between it and our own descriptor.
    var needsUs: Bool {
        if flags & O_DIRECT != 0 { return true }
        guard isWritable else { return false }
        guard flags & O_APPEND == 0, let status = try? FileStatus(of: path.rawValue) else { return true }
        return status.st_mode & (S_ISUID | S_ISGID) != 0
    }

    /// A descriptor to read from and, if it was opened so, to write to.
    var descriptor: Descriptor {
        get throws(Errno) {
            if let opened = state.withLock({ $0.opened }) { return opened }
            // Of two that come here at once one opens in vain.
            let opened = try path.reopened(O_RDONLY)
            return state.withLock { state in
                if state.opened == nil { state.opened = opened }
                return state.opened ?? opened
            }
        }
    }
}
