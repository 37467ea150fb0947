import CFuse
import CLinux
import Glibc

/// The room in which `readdir` and `readdirplus` answer: as many entries as fit, in the order of the directory.
///
/// Lives as long as the operation; libfuse lays the entries out.
public struct DirectoryReply {
    private let request: fuse_req_t
    private let room: UnsafeMutableRawBufferPointer
    private(set) var used = 0
    /// Where a later call goes on after the entries that are in it; nil if there are none.
    ///
    /// A caller with little room goes on earlier, after one of them.
    public private(set) var nextOffset: off_t?
    /// Whether what is in it counts as looked up.
    private var hasLookups = false

    /// Fewer bytes than an entry has: the kernel finds no entry in them.
    private static let crumb = 8

    init(request: fuse_req_t, room: UnsafeMutableRawBufferPointer) {
        self.request = request
        self.room = room
    }

    /// Whether nothing has been added yet.
    public var isEmpty: Bool { used == 0 }

    /// Says that there are no entries from the offset asked for on.
    ///
    /// - Parameter isKept: Whether the kernel may keep the listing until it makes or removes a name in the directory itself.
    ///   What it takes for the end of a listing to be kept is a reply of no bytes, and no flag of it says otherwise for a
    ///   directory that was never opened; one of too few bytes for an entry (`parse_dirfile` of fs/fuse/readdir.c) is the end, too.
    public mutating func end(isKept: Bool) {
        guard !isKept, used == 0, room.count >= Self.crumb else { return }
        room[..<Self.crumb].initializeMemory(as: UInt8.self, repeating: 0)
        used = Self.crumb
    }

    /// Adds a name with its `d_ino` and the file type in `mode`; `nextOffset` is where a later call goes on.
    ///
    /// False when it does not fit: the caller stops, and the kernel asks again from the last offset it has.
    public mutating func add(_ name: FileName, number: ino_t, mode: mode_t, nextOffset: off_t) -> Bool {
        var status = FileStatus()
        status.st_ino = number
        status.st_mode = mode
        let needed = fuse_add_direntry(request, cursor, remaining, name.pointer, &status, nextOffset)
        return take(needed, nextOffset)
    }

    /// Whether `name` would fit together with its attributes.
    ///
    /// To be asked before the lookup that `add(_:entry:nextOffset:)` reports, as a lookup that never reaches the
    /// kernel is never forgotten.
    public func hasRoom(for name: FileName) -> Bool {
        fuse_add_direntry_plus(request, nil, 0, name.pointer, nil, 0) <= remaining
    }

    /// Adds a name with its attributes, which counts as a lookup of it.
    public mutating func add(_ name: FileName, entry: Entry, nextOffset: off_t) -> Bool {
        var parameters = fuse_entry_param(entry)
        let needed = fuse_add_direntry_plus(request, cursor, remaining, name.pointer, &parameters, nextOffset)
        hasLookups = true
        return take(needed, nextOffset)
    }

    /// Calls `body` for each lookup that is in the reply, as laid out by libfuse (`struct fuse_direntplus` in fuse(4)).
    func forEachLookup(_ body: (InodeNumber) -> Void) {
        guard hasLookups else { return }
        var rest = UnsafeRawBufferPointer(rebasing: room.prefix(used))
        // because the member is there, in a header of the kernel's.
        let header = MemoryLayout<fuse_direntplus>.offset(of: \.dirent)! + MemoryLayout<fuse_dirent>.size
        while rest.count >= header {
            let entry = rest.loadUnaligned(as: fuse_direntplus.self)
            // One that was only listed has no inode.
            if entry.entry_out.nodeid != 0 { body(InodeNumber(rawValue: entry.entry_out.nodeid)) }
            let size = (header + Int(entry.dirent.namelen) + 7) & ~7
            rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(size))
        }
    }

    private var remaining: Int { room.count - used }

    private var cursor: UnsafeMutablePointer<CChar>? {
        (room.baseAddress.map { $0 + used })?.assumingMemoryBound(to: CChar.self)
    }

    private mutating func take(_ needed: Int, _ nextOffset: off_t) -> Bool {
        guard needed <= remaining else { return false }
        used += needed
        self.nextOffset = nextOffset
        return true
    }
}

extension fuse_entry_param {
    init(_ entry: Entry) {
        self.init()
        ino = entry.inode.rawValue
        generation = UInt64(entry.generation)
        attr = entry.status
        entry_timeout = entry.nameTimeout
        attr_timeout = entry.statusTimeout
    }
}
