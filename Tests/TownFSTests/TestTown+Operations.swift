import CLinux
import Fuse
import Glibc
import Linux
import Liveness
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import Fuse
@testable import TownFS

/// The operations of the file system, as the kernel calls them.
extension TestTown {
    var features: Features { fileSystem.features }
    var nodes: NodeStore { fileSystem.tree.nodes }
    var signals: SignalDirectory { fileSystem.tree.signals }
    var listings: Listings { fileSystem.tree.directories.listings }
    /// All open files, of the tree and of `.pulse`.
    var openHandles: [OpenHandle] { fileSystem.tree.files.all + fileSystem.pulse.files.all }
    func inode(of handle: FileHandle) throws(Errno) -> InodeNumber { try fileSystem.tree.files[handle].inode }
    var openDirectoryCount: Int { fileSystem.tree.directories.opened.count }

    func mayBlock(_ inode: InodeNumber, _ name: String? = nil) -> Bool {
        guard let name else { return fileSystem.mayBlock(inode, name: nil) }
        return NodeName(Array(name.utf8)).withPointer {
            fileSystem.mayBlock(inode, name: FileName(borrowing: $0))
        }
    }

    func lookup(_ name: [UInt8], in parent: InodeNumber, by caller: Request = .me) throws(Errno) -> Entry {
        let entry = try name.asFileName { (name) throws(Errno) in try fileSystem.lookup(name, in: parent, for: caller) }
        // An absence that the kernel may cache.
        guard entry.inode.rawValue != 0 else { throw .noSuchFileOrDirectory }
        return entry
    }

    func lookup(_ name: FileName, in parent: InodeNumber, for caller: Request) throws(Errno) -> Entry {
        try fileSystem.lookup(name, in: parent, for: caller)
    }

    func forget(_ inode: InodeNumber, count: UInt64) { fileSystem.forget(inode, count: count) }

    func mknod(
        _ name: FileName, in parent: InodeNumber, mode: mode_t, device: dev_t, for caller: Request
    ) throws(Errno) -> Entry {
        try fileSystem.mknod(name, in: parent, mode: mode, device: device, for: caller)
    }

    func mkdir(_ name: FileName, in parent: InodeNumber, mode: mode_t, for caller: Request) throws(Errno) -> Entry {
        try fileSystem.mkdir(name, in: parent, mode: mode, for: caller)
    }

    func symlink(
        to target: UnsafePointer<CChar>, named name: FileName, in parent: InodeNumber, for caller: Request
    ) throws(Errno) -> Entry {
        try fileSystem.symlink(to: target, named: name, in: parent, for: caller)
    }

    func link(
        _ inode: InodeNumber, to name: FileName, in parent: InodeNumber, for caller: Request
    ) throws(Errno) -> Entry {
        try fileSystem.link(inode, to: name, in: parent, for: caller)
    }

    func unlink(_ name: FileName, in parent: InodeNumber, for caller: Request) throws(Errno) {
        try fileSystem.unlink(name, in: parent, for: caller)
    }

    func rmdir(_ name: FileName, in parent: InodeNumber, for caller: Request) throws(Errno) {
        try fileSystem.rmdir(name, in: parent, for: caller)
    }

    func rename(
        _ name: FileName, in parent: InodeNumber, to newName: FileName, in newParent: InodeNumber, flags: UInt32,
        for caller: Request
    ) throws(Errno) {
        try fileSystem.rename(name, in: parent, to: newName, in: newParent, flags: flags, for: caller)
    }

    func getattr(_ inode: InodeNumber, for caller: Request) throws(Errno) -> StatusReply {
        try fileSystem.getattr(inode, for: caller)
    }

    @discardableResult
    func setattr(
        _ inode: InodeNumber, _ changes: StatusChanges, handle: FileHandle?, for caller: Request
    ) throws(Errno) -> StatusReply {
        try fileSystem.setattr(inode, changes, handle: handle, for: caller)
    }

    func setxattr(
        _ inode: InodeNumber, _ name: UnsafePointer<CChar>, value: UnsafeRawBufferPointer, flags: CInt
    ) throws(Errno) {
        try fileSystem.setxattr(inode, name, value: value, flags: flags)
    }

    func getxattr(
        _ inode: InodeNumber, _ name: UnsafePointer<CChar>, into value: UnsafeMutableRawBufferPointer
    ) throws(Errno) -> Int {
        try fileSystem.getxattr(inode, name, into: value)
    }

    func listxattr(
        _ inode: InodeNumber, into names: UnsafeMutableRawBufferPointer, for caller: Request
    ) throws(Errno) -> Int {
        try fileSystem.listxattr(inode, into: names, for: caller)
    }

    func removexattr(_ inode: InodeNumber, _ name: UnsafePointer<CChar>) throws(Errno) {
        try fileSystem.removexattr(inode, name)
    }

    func open(_ inode: InodeNumber, flags: CInt, for caller: Request) throws(Errno) -> OpenReply {
        try fileSystem.open(inode, flags: flags, for: caller)
    }

    func create(
        _ name: FileName, in parent: InodeNumber, mode: mode_t, flags: CInt, for caller: Request
    ) throws(Errno) -> (Entry, OpenReply) {
        try fileSystem.create(name, in: parent, mode: mode, flags: flags, for: caller)
    }

    func create(
        _ name: [UInt8], in parent: InodeNumber, flags: CInt, mode: mode_t, by caller: Request
    ) throws(Errno) -> FileHandle {
        try name.asFileName { (name) throws(Errno) in
            try fileSystem.create(name, in: parent, mode: S_IFREG | mode, flags: flags, for: caller).1.handle
        }
    }

    func read(
        _ handle: FileHandle, into bytes: UnsafeMutableRawBufferPointer, at offset: off_t
    ) throws(Errno) -> Int {
        try fileSystem.read(handle, into: bytes, at: offset, for: .me)
    }

    func write(
        _ handle: FileHandle, _ bytes: UnsafeRawBufferPointer, at offset: off_t, appending: Bool, for caller: Request
    ) throws(Errno) -> Int {
        try fileSystem.write(handle, bytes, at: offset, appending: appending, for: caller)
    }

    func flush(_ handle: FileHandle, for caller: Request) throws(Errno) { try fileSystem.flush(handle, for: caller) }

    func release(_ handle: FileHandle) { fileSystem.release(handle) }

    func fsync(_ handle: FileHandle, dataOnly: Bool, for caller: Request) throws(Errno) {
        try fileSystem.fsync(handle, dataOnly: dataOnly, for: caller)
    }

    func lseek(_ handle: FileHandle, offset: off_t, whence: CInt) throws(Errno) -> off_t {
        try fileSystem.lseek(handle, offset: offset, whence: whence)
    }

    func poll(_ handle: FileHandle, pollHandle: PollHandle?) throws(Errno) -> UInt32 {
        try fileSystem.poll(handle, pollHandle: pollHandle)
    }

    func opendir(_ inode: InodeNumber, for caller: Request) throws(Errno) -> OpenDirectoryReply {
        try fileSystem.opendir(inode, for: caller)
    }

    func releasedir(_ handle: FileHandle) { fileSystem.releasedir(handle) }

    func fsyncdir(_ inode: InodeNumber, _ handle: FileHandle, dataOnly: Bool) throws(Errno) {
        try fileSystem.fsyncdir(inode, handle, dataOnly: dataOnly, for: .me)
    }

    func receive(_ touch: Touch, exit: Record.Exit? = nil) { fileSystem.receive(touch, exit: exit) }

    func receiveForget(_ subject: RecordSubject, stamp: HLCTimestamp, at time: WallTime) {
        fileSystem.receiveForget(subject, stamp: stamp, at: time)
    }
}
