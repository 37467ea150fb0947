import Fuse
import Glibc
import SystemPackage

/// Which file it is, whatever its names: the pair that no two files have at one time.
struct FileIdentity: Hashable, Sendable {
    let device: dev_t
    let number: ino_t
}

extension FileStatus {
    var identity: FileIdentity { FileIdentity(device: st_dev, number: st_ino) }

    var kind: mode_t { st_mode & S_IFMT }
    var isDirectory: Bool { kind == S_IFDIR }
    var isRegularFile: Bool { kind == S_IFREG }

    /// The status of what `descriptor` is open on, an `O_PATH` descriptor too.
    ///
    /// The corresponding C function is `fstat`.
    init(of descriptor: CInt) throws(Errno) {
        self.init()
        _ = try retryingInterrupts { fstat(descriptor, &self) }
    }

    /// The status of a name in a directory; a symbolic link is not followed.
    ///
    /// The corresponding C function is `fstatat`.
    init(of name: UnsafePointer<CChar>, in directory: CInt) throws(Errno) {
        self.init()
        _ = try retryingInterrupts { fstatat(directory, name, &self, AT_SYMLINK_NOFOLLOW) }
    }
}
