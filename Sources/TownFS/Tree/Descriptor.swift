import CLinux
import Fuse
import Glibc
import Linux
import SystemPackage

/// The type of a file system (`f_type` of statfs(2)).
struct FileSystemKind {
    fileprivate let magic: Int

    /// Overlayfs changes a file's creation time, and sometimes its inode number, when it copies the file up.
    var isOverlay: Bool { magic == clinux_overlayfs }

    /// Whether a directory offset stays valid across openings and changes of the directory.
    ///
    /// In overlayfs and ramfs, and in tmpfs up to Linux 6.5, offsets belong to one opening.
    var hasLastingOffsets: Bool { isLocalDisk && magic != clinux_ramfs }

    /// A local disk or memory file system, on which close(2) reports no errors.
    var isLocalDisk: Bool { clinux_is_local_disk(magic) }
}

/// A reference-counted descriptor: the node store may evict one while operations still use it.
package typealias Descriptor = SharedDescriptor

extension Descriptor {
    /// The type of the file system that it is open on.
    var fileSystemKind: FileSystemKind {
        get throws(Errno) {
            var status = statfs()
            _ = try retryingInterrupts { fstatfs(rawValue, &status) }
            return FileSystemKind(magic: Int(status.f_type))
        }
    }

    /// Opens the same file with other flags, close-on-exec.
    func reopened(_ flags: CInt) throws(Errno) -> Descriptor { Descriptor(try ownedReopened(flags)) }

    /// Opens the same directory for listing.
    func reopenedDirectory() throws(Errno) -> Descriptor {
        do throws(Errno) {
            // Half the cost of `/proc/self/fd`.
            return Descriptor(try OwnedDescriptor(opening: ".", in: rawValue, O_RDONLY | O_DIRECTORY))
        } catch .permissionDenied {
            // A directory without search permission may still be listed.
            return try reopened(O_RDONLY | O_DIRECTORY)
        }
    }

    /// As `reopened`, for a single owner.
    func ownedReopened(_ flags: CInt) throws(Errno) -> OwnedDescriptor {
        OwnedDescriptor(takingOwnershipOf: try callByPath { openat(AT_FDCWD, $0, flags | O_CLOEXEC) })
    }

    /// Calls `body` with `/proc/self/fd/N`, for system calls that do not accept an `O_PATH` descriptor.
    ///
    /// Throws `errno` if `body` returns -1.
    func callByPath<Result: FixedWidthInteger & SignedInteger>(
        _ body: (_ path: UnsafePointer<CChar>) -> Result
    ) throws(Errno) -> Result {
        // On the stack, so that opening a file allocates nothing.
        var path: InlineArray<32, CChar> = .init(repeating: 0)
        var end = 0
        for byte in "/proc/self/fd/".utf8 {
            path[end] = CChar(bitPattern: byte)
            end += 1
        }
        var divisor: CInt = 1
        while rawValue / divisor >= 10 { divisor *= 10 }
        while divisor > 0 {
            path[end] = CChar(rawValue / divisor % 10) + CChar(UInt8(ascii: "0"))
            end += 1
            divisor /= 10
        }
        let span = path.span
        return try span.withUnsafeBufferPointer { (path) throws(Errno) in
            // because an inline array of 32 has a first element.
            try retryingInterrupts { body(path.baseAddress!) }
        }
    }
}

/// A file handle that the kernel exports (`struct file_handle`): it leads to one file whatever its names are.
///
/// Opening needs CAP_DAC_READ_SEARCH, and not every file system supports handles.
struct ExportHandle: Sendable {
    /// The file system that handles are opened on.
    final class FileSystem: Sendable {
        fileprivate let directory: Descriptor
        private let device: dev_t

        /// Nil if handles cannot be opened.
        init?(of root: Descriptor) {
            guard let directory = try? root.reopened(O_RDONLY | O_DIRECTORY),
                let device = try? FileStatus(of: root.rawValue).st_dev,
                let handle = ExportHandle(of: root), (try? handle.open(on: directory)) != nil
            else { return nil }
            self.directory = directory
            self.device = device
        }

        /// The handle of a file; nil if it is on another file system or has none.
        func handle(of file: Descriptor, _ identity: FileIdentity) -> ExportHandle? {
            identity.device == device ? ExportHandle(of: file) : nil
        }
    }

    private let bytes: [UInt8]

    fileprivate init?(of file: Descriptor) {
        let room = [UInt8](unsafeUninitializedCapacity: Int(clinux_handle_room)) { room, count in
            count = max(0, Int(clinux_get_handle(file.rawValue, room.baseAddress)))
        }
        guard !room.isEmpty else { return nil }
        bytes = room
    }

    /// An `O_PATH` descriptor of the file; ESTALE if it no longer exists.
    func open(in fileSystem: FileSystem) throws(Errno) -> Descriptor { try open(on: fileSystem.directory) }

    fileprivate func open(on directory: Descriptor) throws(Errno) -> Descriptor {
        Descriptor(
            OwnedDescriptor(
                takingOwnershipOf: try retryingInterrupts {
                    clinux_open_handle(directory.rawValue, bytes, O_PATH | O_NOFOLLOW | O_CLOEXEC)
                }))
    }
}
