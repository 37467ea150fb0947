import CLinux
import Fuse
import Glibc
import Linux
import SystemPackage

/// A file handle that the kernel exports: it leads to one file whatever its names are.
///
/// Opening needs CAP_DAC_READ_SEARCH, and not every file system supports handles.
///
/// The corresponding C type is `struct file_handle`.
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
    func open(in fileSystem: FileSystem) throws(Errno) -> Descriptor {
        try open(on: fileSystem.directory)
    }

    fileprivate func open(on directory: Descriptor) throws(Errno) -> Descriptor {
        Descriptor(
            OwnedDescriptor(
                takingOwnershipOf: try retryingInterrupts {
                    clinux_open_handle(directory.rawValue, bytes, O_PATH | O_NOFOLLOW | O_CLOEXEC)
                }))
    }
}
