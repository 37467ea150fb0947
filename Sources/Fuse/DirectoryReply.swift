import CLinux
import Glibc

/// The reply to READDIR and READDIRPLUS: as many entries as fit, in the order of the directory.
///
/// Lives as long as the operation. An entry is a `struct fuse_dirent`, or a `struct fuse_direntplus` with the attributes
/// before it: the name follows without a NUL, and zeros up to a multiple of 8 bytes.
public struct DirectoryReply {
    private let room: UnsafeMutableRawBufferPointer
    /// Bytes used so far.
    package private(set) var used = 0
    /// Where a later call continues, after the entries added; nil if there are none.
    ///
    /// A caller with little room may continue earlier, after any of them.
    public private(set) var nextOffset: off_t?
    private var hasLookups = false

    /// Too few bytes for an entry: the kernel finds none in them.
    private static let emptyReplySize = 8
    private static let direntSize = MemoryLayout<fuse_dirent>.size
    private static let entrySize = MemoryLayout<fuse_entry_out>.size

    package init(room: UnsafeMutableRawBufferPointer) {
        self.room = room
    }

    /// Whether nothing has been added yet.
    public var isEmpty: Bool { used == 0 }

    /// Ends a listing: there are no entries from the offset asked for on.
    ///
    /// - Parameter isKept: Whether the kernel may cache the listing until it makes or removes a name in the directory.
    ///   It caches a listing that ends with an empty reply, and for a directory that was never opened no flag prevents
    ///   that; a reply too short for an entry (`parse_dirfile` in fs/fuse/readdir.c) is an end too.
    public mutating func end(isKept: Bool) {
        guard !isKept, used == 0, room.count >= Self.emptyReplySize else { return }
        room[..<Self.emptyReplySize].initializeMemory(as: UInt8.self, repeating: 0)
        used = Self.emptyReplySize
    }

    /// Adds a name with its `d_ino` and the file type in `mode`; a later call continues at `nextOffset`.
    ///
    /// - Returns: False if it does not fit. The caller then stops; the kernel asks again from the last offset it has.
    public mutating func add(_ name: FileName, number: ino_t, mode: mode_t, nextOffset: off_t) -> Bool {
        let bytes = name.bytes
        guard fits(Self.direntSize + bytes.count) else { return false }
        addDirent(bytes, number: number, mode: mode, nextOffset: nextOffset)
        return true
    }

    /// Whether `name` fits together with its attributes.
    ///
    /// To be asked before the lookup that `add(_:entry:nextOffset:)` counts: the kernel never forgets a lookup that it was
    /// not told of.
    public func hasRoom(for name: FileName) -> Bool {
        fits(Self.entrySize + Self.direntSize + name.bytes.count)
    }

    /// Adds a name with its attributes, which counts as a lookup.
    public mutating func add(_ name: FileName, entry: Entry, nextOffset: off_t) -> Bool {
        guard hasRoom(for: name) else { return false }
        room.storeBytes(of: fuse_entry_out(entry), toByteOffset: used, as: fuse_entry_out.self)
        used += Self.entrySize
        hasLookups = true
        addDirent(name.bytes, number: entry.status.st_ino, mode: entry.status.st_mode, nextOffset: nextOffset)
        return true
    }

    /// Calls `body` for each lookup in the reply.
    func forEachLookup(_ body: (InodeNumber) -> Void) {
        guard hasLookups else { return }
        var rest = UnsafeRawBufferPointer(rebasing: room.prefix(used))
        while rest.count >= Self.entrySize + Self.direntSize {
            let entry = rest.loadUnaligned(as: fuse_entry_out.self)
            let dirent = rest.loadUnaligned(fromByteOffset: Self.entrySize, as: fuse_dirent.self)
            // An entry without an inode number is listed only.
            if entry.nodeid != 0 { body(InodeNumber(rawValue: entry.nodeid)) }
            let size = Self.padded(Self.entrySize + Self.direntSize + Int(dirent.namelen))
            rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(size))
        }
    }

    private static func padded(_ size: Int) -> Int { (size + 7) & ~7 }

    private func fits(_ size: Int) -> Bool { Self.padded(size) <= room.count - used }

    private mutating func addDirent(
        _ name: UnsafeBufferPointer<UInt8>, number: ino_t, mode: mode_t, nextOffset: off_t
    ) {
        let end = used + Self.padded(Self.direntSize + name.count)
        var dirent = fuse_dirent()
        dirent.ino = UInt64(number)
        dirent.off = UInt64(bitPattern: Int64(nextOffset))
        dirent.namelen = UInt32(name.count)
        dirent.type = UInt32((mode & S_IFMT) >> 12)
        room.storeBytes(of: dirent, toByteOffset: used, as: fuse_dirent.self)
        let text = UnsafeMutableRawBufferPointer(rebasing: room[(used + Self.direntSize)..<end])
        text.copyMemory(from: UnsafeRawBufferPointer(name))
        text[name.count...].initializeMemory(as: UInt8.self, repeating: 0)
        used = end
        self.nextOffset = nextOffset
    }
}
