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

extension TestTown {
    /// Whether the kernel opens a directory to list it.
    enum Opening: CaseIterable {
        case opened, unopened
    }

    /// Calls `body` with the handle to list a directory with.
    func opening(_ inode: InodeNumber, _ opening: Opening, _ body: (FileHandle) throws -> Void) throws {
        guard opening == .opened else { return try body(.unopened) }
        let handle = try opendir(inode, for: .me).handle
        defer { releasedir(handle) }
        try body(handle)
    }

    /// All entries of a listing, up to its end.
    func listAll(
        _ inode: InodeNumber, _ handle: FileHandle, from offset: off_t = 0, room: Int = 1 << 16,
        withLookup: Bool = false
    ) throws -> [Listed] {
        var all: [Listed] = []
        while case let part = try list(
            inode, handle, from: all.last?.nextOffset ?? offset, room: room, withLookup: withLookup), !part.isEmpty
        { all += part }
        return all
    }

    /// The entries of one reply of up to `room` bytes.
    func list(
        _ inode: InodeNumber, _ handle: FileHandle, from offset: off_t = 0, room: Int = 1 << 16,
        withLookup: Bool = false
    ) throws -> [Listed] {
        try answer(to: inode, handle, from: offset, room: room, withLookup: withLookup) {
            Listed.parse($0, withLookup: withLookup)
        }
    }

    /// The size of one reply, in bytes.
    func listedSize(
        _ inode: InodeNumber, _ handle: FileHandle, from offset: off_t, withLookup: Bool
    ) throws -> Int {
        try answer(to: inode, handle, from: offset, room: 1 << 16, withLookup: withLookup, \.count)
    }

    private func answer<Result>(
        to inode: InodeNumber, _ handle: FileHandle, from offset: off_t, room: Int, withLookup: Bool,
        _ body: (UnsafeRawBufferPointer) -> Result
    ) throws -> Result {
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: room, alignment: 8)
        defer { bytes.deallocate() }
        var reply = DirectoryReply(room: bytes)
        try fileSystem.readdir(inode, handle, from: offset, plus: withLookup, into: &reply, for: .me)
        return body(UnsafeRawBufferPointer(rebasing: bytes[..<reply.used]))
    }
}

/// One entry of a listing in wire format (`struct fuse_dirent`, `struct fuse_direntplus`).
struct Listed: Hashable {
    let name: [UInt8]
    let number: UInt64
    let kind: mode_t
    let nextOffset: off_t
    /// `nodeid`; 0 for an entry without a lookup.
    let inode: UInt64

    var text: String { String(decoding: name, as: UTF8.self) }

    static func parse(_ bytes: UnsafeRawBufferPointer, withLookup: Bool) -> [Listed] {
        var listed: [Listed] = []
        var position = 0
        // The kernel ignores a partial entry, too.
        while bytes.count - position >= MemoryLayout<fuse_dirent>.size
            + (withLookup ? MemoryLayout<fuse_entry_out>.size : 0)
        {
            var inode: UInt64 = 0
            if withLookup {
                inode = bytes.loadUnaligned(fromByteOffset: position, as: UInt64.self)
                position += MemoryLayout<fuse_entry_out>.size
            }
            let size = Int(bytes.loadUnaligned(fromByteOffset: position + 16, as: UInt32.self))
            listed.append(
                Listed(
                    name: Array(bytes[(position + 24)..<(position + 24 + size)]),
                    number: bytes.loadUnaligned(fromByteOffset: position, as: UInt64.self),
                    kind: mode_t(bytes.loadUnaligned(fromByteOffset: position + 20, as: UInt32.self)) << 12,
                    nextOffset: bytes.loadUnaligned(fromByteOffset: position + 8, as: off_t.self), inode: inode))
            position += (24 + size + 7) / 8 * 8
        }
        return listed
    }
}

extension TestTown {
    /// The names in a listing, without `.` and `..`.
    func names(_ path: String) throws -> [String] {
        let inode = try lookup(path).inode
        let handle = try opendir(inode, for: .me).handle
        defer { releasedir(handle) }
        return try list(inode, handle).map(\.text).filter { $0 != "." && $0 != ".." }.sorted()
    }
}
