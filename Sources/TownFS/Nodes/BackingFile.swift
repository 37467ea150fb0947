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
    let isWritable: Bool
    /// Whether it can be mapped so that its bytes change without a write.
    let isMappable: Bool
    private let state: Mutex<State>

    /// - Parameters:
    ///   - opened: Opened with the caller's flags.
    ///   - path: The same file as `O_PATH`, if there is such a descriptor.
    init(_ opened: Descriptor, of path: Descriptor? = nil, flags: CInt) {
        self.path = path ?? opened
        isWritable = flags & O_ACCMODE != O_RDONLY
        isMappable = flags & O_ACCMODE == O_RDWR
        state = Mutex(State(opened: opened))
    }

    /// To be opened for reading if need be.
    init(reading path: Descriptor) {
        self.path = path
        isWritable = false
        isMappable = false
        state = Mutex(State())
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
