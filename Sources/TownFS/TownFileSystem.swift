import Fuse
import Glibc
import Liveness
import SystemPackage

/// The file system of a mount over a whole town: `.pulse` in its root, and the tree.
///
/// Decides by the range of an inode number which of the two a request is for. They share their tables of handles.
package final class TownFileSystem: HandleFileSystem {
    let tree: TreeFileSystem
    let pulse: PulseFileSystem

    /// - Parameters:
    ///   - state: Where a successor finds inodes and open files. If it holds some, this is the successor.
    ///   - server: The part of `.pulse/status.json` that only the process knows.
    package init(
        _ town: Town, state: SharedState? = nil, server: @escaping @Sendable () -> TownStatus.Server
    ) throws(Errno) {
        let signals = SignalDirectory(rootOf: town)
        let records = state?.handles()
        let tree = try TreeFileSystem(
            town, covering: [], root: town.root, signals: signals, hiding: PulseFileSystem.name, state: state,
            handles: records)
        self.tree = tree
        pulse = PulseFileSystem(
            of: town, signals: signals, generation: tree.generation, records: records, files: tree.files,
            directories: tree.directories, treeCounts: { tree.counts }, server: server)
    }

    package var files: HandleTable<OpenHandle> { tree.files }
    package var directories: DirectoryHandles { tree.directories }

    package var features: Features { tree.features }

    package func connected(to connection: Connection) {
        tree.connected(to: connection)
        pulse.connected(to: connection)
    }

    package func mayBlock(_ inode: InodeNumber, name: FileName?) -> Bool {
        if let name, isPulse(name, in: inode) { return false }
        return owner(of: inode).mayBlock(inode, name: name)
    }

    package func isOnRootDevice(_ inode: InodeNumber) -> Bool { owner(of: inode).isOnRootDevice(inode) }

    // MARK: Dispatch

    private func owner(of inode: InodeNumber) -> any FileSystem { PulseInodes.contains(inode) ? pulse : tree }

    /// The owner of a directory in which `name` is to be created: EEXIST for `.pulse` in the root.
    private func owner(creating name: FileName, in parent: InodeNumber) throws(Errno) -> any FileSystem {
        if isPulse(name, in: parent) { throw .fileExists }
        return owner(of: parent)
    }

    /// The owner of two inodes: EPERM for operations between the tree and `.pulse`.
    private func owner(of inode: InodeNumber, and other: InodeNumber) throws(Errno) -> any FileSystem {
        guard PulseInodes.contains(inode) == PulseInodes.contains(other) else { throw .notPermitted }
        return owner(of: inode)
    }

    private func isPulse(_ name: FileName, in parent: InodeNumber) -> Bool {
        parent == .root && name.bytes.elementsEqual(PulseFileSystem.name)
    }

    // MARK: Names

    package func lookup(_ name: FileName, in parent: InodeNumber, for request: Request) throws(Errno) -> Entry {
        if isPulse(name, in: parent) { return try pulse.rootEntry(for: request) }
        return try owner(of: parent).lookup(name, in: parent, for: request)
    }

    package func forget(_ inode: InodeNumber, count: UInt64) { owner(of: inode).forget(inode, count: count) }

    package func mknod(
        _ name: FileName, in parent: InodeNumber, mode: mode_t, device: dev_t, for request: Request
    ) throws(Errno) -> Entry {
        try owner(creating: name, in: parent).mknod(name, in: parent, mode: mode, device: device, for: request)
    }

    package func mkdir(
        _ name: FileName, in parent: InodeNumber, mode: mode_t, for request: Request
    ) throws(Errno) -> Entry {
        try owner(creating: name, in: parent).mkdir(name, in: parent, mode: mode, for: request)
    }

    package func symlink(
        to target: UnsafePointer<CChar>, named name: FileName, in parent: InodeNumber, for request: Request
    ) throws(Errno) -> Entry {
        try owner(creating: name, in: parent).symlink(to: target, named: name, in: parent, for: request)
    }

    package func link(
        _ inode: InodeNumber, to name: FileName, in parent: InodeNumber, for request: Request
    ) throws(Errno) -> Entry {
        let owner = try owner(of: inode, and: parent)
        if isPulse(name, in: parent) { throw .fileExists }
        return try owner.link(inode, to: name, in: parent, for: request)
    }

    package func unlink(_ name: FileName, in parent: InodeNumber, for request: Request) throws(Errno) {
        if isPulse(name, in: parent) { throw .isDirectory }
        try owner(of: parent).unlink(name, in: parent, for: request)
    }

    package func rmdir(_ name: FileName, in parent: InodeNumber, for request: Request) throws(Errno) {
        if isPulse(name, in: parent) { throw .notPermitted }
        try owner(of: parent).rmdir(name, in: parent, for: request)
    }

    package func rename(
        _ name: FileName, in parent: InodeNumber, to newName: FileName, in newParent: InodeNumber, flags: UInt32,
        for request: Request
    ) throws(Errno) {
        if isPulse(name, in: parent) || isPulse(newName, in: newParent) { throw .notPermitted }
        try owner(of: parent, and: newParent).rename(
            name, in: parent, to: newName, in: newParent, flags: flags, for: request)
    }

    package func readlink(_ inode: InodeNumber) throws(Errno) -> [UInt8] {
        try owner(of: inode).readlink(inode)
    }

    // MARK: Attributes

    package func getattr(_ inode: InodeNumber, for request: Request) throws(Errno) -> StatusReply {
        try owner(of: inode).getattr(inode, for: request)
    }

    package func birthTime(of inode: InodeNumber) throws(Errno) -> timespec? {
        try owner(of: inode).birthTime(of: inode)
    }

    package func setattr(
        _ inode: InodeNumber, _ changes: StatusChanges, handle: FileHandle?, for request: Request
    ) throws(Errno) -> StatusReply {
        try owner(of: inode).setattr(inode, changes, handle: handle, for: request)
    }

    package func statfs(_ inode: InodeNumber) throws(Errno) -> FileSystemStatus {
        try owner(of: inode).statfs(inode)
    }

    package func setxattr(
        _ inode: InodeNumber, _ name: UnsafePointer<CChar>, value: UnsafeRawBufferPointer, flags: CInt
    ) throws(Errno) {
        try owner(of: inode).setxattr(inode, name, value: value, flags: flags)
    }

    package func getxattr(
        _ inode: InodeNumber, _ name: UnsafePointer<CChar>, into value: UnsafeMutableRawBufferPointer
    ) throws(Errno) -> Int {
        try owner(of: inode).getxattr(inode, name, into: value)
    }

    package func listxattr(
        _ inode: InodeNumber, into names: UnsafeMutableRawBufferPointer, for request: Request
    ) throws(Errno) -> Int {
        try owner(of: inode).listxattr(inode, into: names, for: request)
    }

    package func removexattr(_ inode: InodeNumber, _ name: UnsafePointer<CChar>) throws(Errno) {
        try owner(of: inode).removexattr(inode, name)
    }

    // MARK: Files

    package func open(_ inode: InodeNumber, flags: CInt, for request: Request) throws(Errno) -> OpenReply {
        try owner(of: inode).open(inode, flags: flags, for: request)
    }

    package func create(
        _ name: FileName, in parent: InodeNumber, mode: mode_t, flags: CInt, for request: Request
    ) throws(Errno) -> (Entry, OpenReply) {
        if isPulse(name, in: parent) { throw .isDirectory }
        return try owner(of: parent).create(name, in: parent, mode: mode, flags: flags, for: request)
    }

    /// Only files of the tree allow passthrough.
    package func ioMode(of handle: FileHandle) -> OpenReply.IOMode { tree.ioMode(of: handle) }

    package func release(_ handle: FileHandle) { tree.release(handle) }

    package func ioctl(
        _ inode: InodeNumber, _ handle: FileHandle, isDirectory: Bool, _ command: UInt32,
        _ argument: UnsafeMutableRawBufferPointer
    ) throws(Errno) {
        try owner(of: inode).ioctl(inode, handle, isDirectory: isDirectory, command, argument)
    }

    // MARK: Directories

    package func opendir(_ inode: InodeNumber, for request: Request) throws(Errno) -> OpenDirectoryReply {
        try owner(of: inode).opendir(inode, for: request)
    }

    package func readdir(
        _ inode: InodeNumber, _ handle: FileHandle, from offset: off_t, plus: Bool, into reply: inout DirectoryReply,
        for request: Request
    ) throws(Errno) {
        try owner(of: inode).readdir(inode, handle, from: offset, plus: plus, into: &reply, for: request)
    }

    package func fsyncdir(
        _ inode: InodeNumber, _ handle: FileHandle, dataOnly: Bool, for request: Request
    ) throws(Errno) {
        try owner(of: inode).fsyncdir(inode, handle, dataOnly: dataOnly, for: request)
    }
}

/// Records of other hosts that share the town: see `TreeFileSystem`.
extension TownFileSystem: SharedRecordReceiver {
    package func receive(_ touch: Touch, exit: Record.Exit?) { tree.receive(touch, exit: exit) }

    package func receiveForget(_ subject: RecordSubject, stamp: HLCTimestamp, at time: WallTime) {
        tree.receiveForget(subject, stamp: stamp, at: time)
    }
}
