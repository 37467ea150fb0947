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

    /// The file itself, whatever its name: the one descriptor of an opening.
    ///
    /// `O_PATH` for a file that is only read, else what was opened with the caller's flags.
    let path: Descriptor
    /// The caller's, as for open(2).
    let flags: CInt
    /// The file system user of the caller that opened it.
    let user: uid_t
    /// What it was when it was opened; nil if nothing depends on that, or it would not tell.
    private let status: FileStatus?
    private let state: Mutex<State>

    /// - Parameters:
    ///   - opened: Opened with the caller's flags.
    ///   - user: The caller's.
    ///   - status: Of `opened`, if that is known already.
    init(_ opened: Descriptor, flags: CInt, user: uid_t, status: FileStatus? = nil) {
        path = opened
        self.flags = flags
        self.user = user
        self.status = status ?? (flags & O_ACCMODE != O_RDONLY ? try? FileStatus(of: opened.rawValue) : nil)
        state = Mutex(State(opened: opened))
    }

    /// To be opened for reading if need be.
    init(reading path: Descriptor, user: uid_t) {
        self.path = path
        self.user = user
        flags = O_RDONLY
        status = try? FileStatus(of: path.rawValue)
        state = Mutex(State())
    }

    var isWritable: Bool { flags & O_ACCMODE != O_RDONLY }

    /// Whether it can be mapped so that its bytes change without a write.
    var isMappable: Bool { flags & O_ACCMODE == O_RDWR }

    /// Whether the kernel would not do quite the same by itself.
    ///
    /// It would go on appending after fcntl(2) has taken the flag away, and leave set-id bits to us; and what the file system
    /// beneath thinks of direct I/O is between it and our own descriptor.
    var requiresServerIO: Bool {
        if flags & O_DIRECT != 0 { return true }
        guard isWritable else { return false }
        guard flags & O_APPEND == 0, let status else { return true }
        return status.st_mode & (S_ISUID | S_ISGID) != 0
    }

    /// The most that the kernel reads ahead at once, by default (`VM_READAHEAD_PAGES`).
    private static let smallSize: off_t = 128 << 10

    /// Whether it is only read, and so small that the kernel has all of it after one request.
    ///
    /// To lend such a file costs more than that request, and the kernel keeps no pages of what it is lent.
    var isSmallAndOnlyRead: Bool {
        guard !isWritable, let status else { return false }
        return status.st_size <= Self.smallSize
    }

    /// The device that it is on, if that is known.
    var device: dev_t? { status?.st_dev }

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
