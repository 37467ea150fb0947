import CLinux
import Glibc
import Linux
import SystemPackage

/// A kind of file system, by the number that statfs(2) tells.
struct FileSystemKind {
    fileprivate let magic: Int

    /// One where a file's birth and sometimes its number change when it is copied up.
    var isOverlay: Bool { magic == clinux_overlayfs }

    /// One on which an offset in a directory means the same in whichever opening, whatever names have come or gone.
    ///
    /// Others, as overlayfs and ramfs, count what one opening has seen. A tmpfs does so up to Linux 6.5.
    var hasLastingOffsets: Bool { isLocalDisk && magic != clinux_ramfs }

    /// One of this machine's own disks or memory, whose close(2) has nothing to say.
    var isLocalDisk: Bool { clinux_is_local_disk(magic) }
}

/// An open descriptor that several may hold; closed when the last one lets go.
///
/// The node store keeps some of these and drops them when there are too many, while operations that have borrowed one
/// go on using it.
package final class Descriptor: Sendable {
    private let owned: OwnedDescriptor

    init(_ owned: consuming OwnedDescriptor) {
        self.owned = owned
    }

    /// Borrowed for a system call by whoever holds the object.
    var rawValue: CInt { owned.rawValue }

    /// What file system it is open on.
    var fileSystemKind: FileSystemKind {
        get throws(Errno) {
            var status = statfs()
            _ = try retryingInterrupts { fstatfs(rawValue, &status) }
            return FileSystemKind(magic: Int(status.f_type))
        }
    }

    /// Opens the same file anew, for more than `O_PATH` allows; close-on-exec whatever `flags` say.
    func reopened(_ flags: CInt) throws(Errno) -> Descriptor {
        Descriptor(try ownedReopened(flags))
    }

    /// Opens the same directory anew, for listing.
    func reopenedDirectory() throws(Errno) -> Descriptor {
        do throws(Errno) {
            // Half the price of the way through `/proc`.
            return Descriptor(try OwnedDescriptor(opening: ".", in: rawValue, O_RDONLY | O_DIRECTORY))
        } catch .permissionDenied {
            // That it may not be searched says nothing about its being listed.
            return try reopened(O_RDONLY | O_DIRECTORY)
        }
    }

    /// The same, for whoever is to be its only owner.
    func ownedReopened(_ flags: CInt) throws(Errno) -> OwnedDescriptor {
        OwnedDescriptor(takingOwnershipOf: try callByPath { openat(AT_FDCWD, $0, flags | O_CLOEXEC) })
    }

    /// Makes a system call that wants a path, or a descriptor that is more than `O_PATH`: by this descriptor's name in
    /// `/proc`, which leads to the very file without a second look at its names.
    ///
    /// Throws what the call leaves in `errno` when it answers -1.
    func callByPath<Result: FixedWidthInteger & SignedInteger>(
        _ body: (_ path: UnsafePointer<CChar>) -> Result
    ) throws(Errno) -> Result {
        // A hand-made string on the stack: opening a file should not cost an allocation.
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
