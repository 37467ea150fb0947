import CLinux
import Glibc
import Synchronization
import SystemPackage

/// A file system that is being configured and mounted, and later the handle of its superblock.
///
/// It keeps the superblock alive, but no mount: umount(2) is not busy because of it. So the last unmount ends the file
/// system only when this is closed, too.
///
/// The corresponding C functions are `fsopen`, `fsconfig` and `fsmount` (Linux 5.2).
package final class FileSystemContext: Sendable {
    private let descriptor: Atomic<CInt>

    /// Begins a new file system of a type.
    ///
    /// - Throws: `operationNotSupportedByDevice` if the kernel does not know the type, `notPermitted` without
    ///   CAP_SYS_ADMIN.
    package init(type: String) throws(Errno) {
        descriptor = Atomic(try retryingInterrupts { clinux_fsopen(type) })
    }

    deinit { close() }

    private var rawValue: CInt { descriptor.load(ordering: .relaxed) }

    /// Closes the handle: the file system ends now if no mount and no open file is left.
    package func close() {
        let closed = descriptor.exchange(-1, ordering: .relaxed)
        if closed != -1 { _ = Glibc.close(closed) }
    }

    package func set(_ option: String, to value: String) throws(Errno) {
        _ = try retryingInterrupts {
            clinux_fsconfig(rawValue, UInt32(clinux_fsconfig_set_string), option, value)
        }
    }

    package func set(_ flag: String) throws(Errno) {
        _ = try retryingInterrupts {
            clinux_fsconfig(rawValue, UInt32(clinux_fsconfig_set_flag), flag, nil)
        }
    }

    /// Creates the superblock and mounts it on an open directory.
    ///
    /// - Parameter attributes: `MOUNT_ATTR_…` of mount_setattr(2).
    /// - Returns: the id of the mount, as in `MountInfo`.
    package func mount(on directory: CInt, attributes: UInt32) throws(Errno) -> Int {
        _ = try retryingInterrupts { clinux_fsconfig(rawValue, UInt32(clinux_fsconfig_create), nil, nil) }
        let mount = OwnedDescriptor(
            takingOwnershipOf: try retryingInterrupts { clinux_fsmount(rawValue, attributes) })
        var status = statx()
        _ = try retryingInterrupts {
            clinux_statx(
                mount.rawValue, "", CInt(AT_EMPTY_PATH) | CInt(AT_STATX_DONT_SYNC), UInt32(STATX_MNT_ID), &status)
        }
        _ = try retryingInterrupts { clinux_attach_mount(mount.rawValue, directory) }
        return Int(status.stx_mnt_id)
    }

    /// Frees every directory entry that nobody uses, negative ones included, and with them unused inodes and their pages.
    ///
    /// Writes dirty pages first, so it may wait for the file system's server.
    ///
    /// The kernel does that whenever a superblock is reconfigured (`shrink_dcache_sb` in `reconfigure_super`).
    package func dropUnusedEntries() throws(Errno) {
        _ = try retryingInterrupts {
            clinux_fsconfig(rawValue, UInt32(clinux_fsconfig_reconfigure), nil, nil)
        }
    }
}
