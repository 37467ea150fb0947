import CLinux
import Glibc
import Linux
import Logging
import SystemPackage

/// What keeper and worker say on the control socket: one byte each.
enum ControlMessage: UInt8 {
    /// To the worker: this keeper has no descriptors of `DescriptorStore` yet.
    case keepAgain = 75
    /// To the worker: write back and exit.
    case finish = 70
    /// To the worker: the mount is gone from the town. Answered, when new replies are short-lived and signal files are
    /// backing files.
    case detach = 68
    /// To the worker: invalidate everything that the kernel still caches.
    ///
    /// Answered.
    case invalidate = 73
    /// To the worker: something else keeps the file system alive; lock `TownLock.detached`.
    case share = 83

    func send(to socket: SharedDescriptor) {
        // Fails only if the other process is dead, which its owner learns in another way.
        _ = Glibc.send(socket.rawValue, [rawValue], 1, CInt(clinux_msg_nosignal))
    }

    /// The next message; nil at the end of the socket.
    static func receive(from socket: CInt) -> ControlMessage? {
        var byte: UInt8 = 0
        let count = (try? retryingInterrupts { read(socket, &byte, 1) }) ?? 0
        return count == 1 ? ControlMessage(rawValue: byte) : nil
    }
}

/// A mount that is gone from the town's path, in the keeper.
///
/// The kernel keeps the file system alive while anything uses it: open files, a bind mount, a copy of the mount in
/// another mount namespace. These users now share the directory with everybody who works in the plain files or in the
/// next mount, so nothing may stay in the kernel's caches:
///
/// 1. The worker stops granting long cache timeouts, and writes signal files back and serves them as backing files.
/// 2. The kernel drops all directory entries that are not in use, negative ones included.
/// 3. The worker invalidates the entries, attributes and pages that are in use.
/// 4. The keeper closes its handle of the superblock. If nothing else uses it, that ends the connection. Otherwise the
///    worker locks `TownLock.detached`.
///
/// Step 2 needs root, step 3 Linux 6.1 (`FUSE_EXPIRE_ONLY`). Otherwise the connection ends at once if a mount is left: its
/// users get ENOTCONN rather than old content. Processes that only have files open go on.
final class DetachedMount: Sendable {
    private let mount: MountInfo
    private let control: SharedDescriptor
    private let connection: SharedDescriptor
    private let superblock: FileSystemContext?
    private let log: Logger

    init(
        _ mount: MountInfo, control: SharedDescriptor, connection: SharedDescriptor,
        superblock: FileSystemContext?, log: Logger
    ) {
        self.mount = mount
        self.control = control
        self.connection = connection
        self.superblock = superblock
        self.log = log
    }

    /// Blocks until the worker and the kernel are done.
    func run() {
        // For a mount of an ordinary user that nothing else uses, it has by now.
        if KernelMount.hasEnded(connection.rawValue) { return }
        ControlMessage.detach.send(to: control)
        guard ControlMessage.receive(from: control.rawValue) == .detach else { return }
        let canInvalidate = mount.isPulse || superblock != nil && Kernel.version >= (6, 1)
        let users = MountUsers(of: [mount])
        // Without a visible user, the mount is in a namespace of another user.
        guard canInvalidate || users.otherMounts().isEmpty && !users.processes().isEmpty else {
            log.warning("\(mount.town) is still mounted elsewhere; ending the connection")
            return ControlMessage.finish.send(to: control)
        }
        do throws(Errno) {
            try superblock?.dropUnusedEntries()
        } catch {
            log.error("cannot drop the caches of \(mount.town): \(error); ending the connection")
            return ControlMessage.finish.send(to: control)
        }
        ControlMessage.invalidate.send(to: control)
        guard ControlMessage.receive(from: control.rawValue) == .invalidate else { return }
        superblock?.close()
        if !KernelMount.hasEnded(connection.rawValue) { ControlMessage.share.send(to: control) }
    }
}
