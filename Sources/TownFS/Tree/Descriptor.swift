import CLinux
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

/// A reference-counted descriptor, closed with its last reference.
///
/// The node store may evict one while operations still use it.
package final class Descriptor: Sendable {
    private let owned: OwnedDescriptor

    init(_ owned: consuming OwnedDescriptor) {
        self.owned = owned
    }

    /// Valid while the object is referenced: bind the object to a constant, never read this off a temporary value.
    var rawValue: CInt { owned.rawValue }

    /// The type of the file system that it is open on.
    var fileSystemKind: FileSystemKind {
        get throws(Errno) {
            var status = statfs()
            _ = try retryingInterrupts { fstatfs(rawValue, &status) }
            return FileSystemKind(magic: Int(status.f_type))
        }
    }

    /// Opens the same file with other flags, close-on-exec.
    func reopened(_ flags: CInt) throws(Errno) -> Descriptor {
        Descriptor(try ownedReopened(flags))
    }

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
