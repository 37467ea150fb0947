import CLinux
import Fuse
import Glibc
import Linux
import Synchronization
import SystemPackage

/// An open directory.
///
/// An ordinary directory is streamed, with the offsets of the backing file system. One in which signal files can lie is
/// read as a whole. Its entries and offsets are in the order of a hash of their names, as in ext4: an offset leads to
/// the same names whatever was created or removed since.
final class OpenDirectory: Sendable {
    /// One entry, as listed.
    struct Listed: Sendable {
        let name: NodeName
        /// `d_ino`.
        var number: ino_t
        /// The file type, as in `st_mode`; 0 if unknown.
        let kind: mode_t
        /// The offset of the next entry.
        var nextOffset: off_t = 0

        /// Whether it is `.` or `..`.
        var isDots: Bool { name.isDots }

        /// Adds the entry to the reply of READDIR, or with `plus` to that of READDIRPLUS, after a lookup.
        func add(
            to reply: inout DirectoryReply, plus: Bool, _ lookup: (FileName) throws(Errno) -> Entry
        ) -> Bool {
            name.withPointer { pointer in
                let name = FileName(borrowing: pointer)
                guard plus else { return reply.add(name, number: number, mode: kind, nextOffset: nextOffset) }
                guard reply.hasRoom(for: name) else { return false }
                let unknown = Entry.unknown(number: number, mode: kind)
                if isDots { return reply.add(name, entry: unknown, nextOffset: nextOffset) }
                do throws(Errno) {
                    return reply.add(name, entry: try lookup(name), nextOffset: nextOffset)
                } catch .noSuchFileOrDirectory {
                    // Removed since it was read: not listed.
                    return true
                } catch {
                    // The name is there. A later lookup reports the error.
                    return reply.add(name, entry: unknown, nextOffset: nextOffset)
                }
            }
        }
    }

    private enum Source: Sendable {
        case stream(DirectoryStream, shown: @Sendable (ino_t) -> ino_t)
        case listing(@Sendable () throws(Errno) -> [Listed])
        case late(@Sendable () throws(Errno) -> OpenDirectory)
    }

    private let source: Source
    /// The entries of a listing, as last read from the start.
    private let listed = Mutex<[Listed]?>(nil)
    private let streamed: Descriptor?
    /// Of a late one, once it was opened.
    private let reopened = Mutex<OpenDirectory?>(nil)

    /// - Parameter shown: Maps a backing inode number to `d_ino`.
    init(streaming real: Descriptor, shown: @escaping @Sendable (ino_t) -> ino_t) {
        source = .stream(DirectoryStream(real), shown: shown)
        streamed = real
    }

    /// - Parameter listing: Reads all entries.
    init(real: Descriptor? = nil, listing: @escaping @Sendable () throws(Errno) -> [Listed]) {
        source = .listing(listing)
        streamed = real
    }

    /// One that the first request opens, which may have to wait.
    init(late open: @escaping @Sendable () throws(Errno) -> OpenDirectory) {
        source = .late(open)
        streamed = nil
    }

    private func reopened(_ open: () throws(Errno) -> OpenDirectory) throws(Errno) -> OpenDirectory {
        if let known = reopened.withLock({ $0 }) { return known }
        let opened = try open()
        return reopened.withLock { reopened in
            reopened = reopened ?? opened
            return reopened ?? opened
        }
    }

    /// The backing directory, if there is one.
    var real: Descriptor? {
        get throws(Errno) {
            if case .late(let open) = source { return try reopened(open).real }
            return streamed
        }
    }

    private init(listed: [Listed]) {
        source = .listing({ () throws(Errno) in listed })
        streamed = nil
        self.listed.withLock { $0 = Self.ordered(listed) }
    }

    /// The entries as of now, without an open descriptor.
    func snapshot() throws(Errno) -> OpenDirectory {
        switch source {
        case .late(let open): return try reopened(open).snapshot()
        case .listing(let list): return OpenDirectory(listed: try list())
        case .stream:
            var entries: [Listed] = []
            _ = try forEach(from: 0) { entry in
                entries.append(entry)
                return true
            }
            return OpenDirectory(listed: entries)
        }
    }

    /// Whether an offset means the same in every opening.
    func hasLastingOffsets() throws(Errno) -> Bool {
        if case .late(let open) = source { return try reopened(open).hasLastingOffsets() }
        guard case .stream = source, let streamed else { return false }
        return try streamed.fileSystemKind.hasLastingOffsets
    }

    /// The number of entries read; nil for a stream.
    var count: Int? {
        guard case .listing = source else { return nil }
        return listed.withLock { $0?.count ?? 0 }
    }

    /// Calls `body` with each entry from `offset` on, until it returns false.
    ///
    /// - Returns: Whether it came to the end.
    func forEach(from offset: off_t, _ body: (Listed) throws(Errno) -> Bool) throws(Errno) -> Bool {
        switch source {
        case .late(let open): return try reopened(open).forEach(from: offset, body)
        case .stream(let stream, let shown):
            return try stream.forEach(from: offset) { (listed) throws(Errno) in
                var entry = listed
                entry.number = shown(entry.number)
                return try body(entry)
            }
        case .listing(let list):
            let entries = try entries(from: offset, list)
            var (start, end) = (0, entries.count)
            while start < end {
                let middle = (start + end) / 2
                if entries[middle].nextOffset <= offset { start = middle + 1 } else { end = middle }
            }
            for entry in entries[start...] {
                guard try body(entry) else { return false }
            }
            return true
        }
    }

    private func entries(from offset: off_t, _ list: () throws(Errno) -> [Listed]) throws(Errno) -> [Listed] {
        if offset > 0, let known = listed.withLock({ $0 }) { return known }
        let fresh = Self.ordered(try list())
        listed.withLock { $0 = fresh }
        return fresh
    }

    /// Sorts entries by their offsets.
    private static func ordered(_ entries: [Listed]) -> [Listed] {
        var entries = entries
        for index in entries.indices { entries[index].nextOffset = place(of: entries[index].name) }
        entries.sort { one, other in
            one.nextOffset != other.nextOffset
                ? one.nextOffset < other.nextOffset : one.name.bytes.lexicographicallyPrecedes(other.name.bytes)
        }
        // Two names may have one hash.
        for index in entries.indices.dropFirst() {
            entries[index].nextOffset = max(entries[index].nextOffset, entries[index - 1].nextOffset + 1)
        }
        return entries
    }

    /// 1 for `.`, 2 for `..`, and a hash of 62 bits for any other name.
    private static func place(of name: NodeName) -> off_t {
        if name.isDots { return name.bytes.count }
        // The same in every process, as a successor continues listings.
        return off_t(name.bytes.fnv1a & (1 << 62 - 1) | 4)
    }
}

extension NodeName {
    /// Whether it is `.` or `..`.
    fileprivate var isDots: Bool {
        let bytes = bytes
        return bytes.count <= 2 && bytes.allSatisfy { $0 == UInt8(ascii: ".") }
    }
}

extension Entry {
    /// An entry that is listed without a lookup, as `.` and `..` are.
    fileprivate static func unknown(number: ino_t, mode: mode_t) -> Entry {
        var status = FileStatus()
        status.st_ino = number
        status.st_mode = mode
        return Entry(inode: InodeNumber(rawValue: 0), status: status, nameTimeout: 0, statusTimeout: 0)
    }
}

/// The entries of a backing directory, read in blocks (getdents64(2)).
struct DirectoryStream: Sendable {
    private let directory: Descriptor
    /// In bytes: some hundred entries.
    private static let blockSize = 32 << 10

    init(_ directory: Descriptor) {
        self.directory = directory
    }

    /// Calls `body` with each entry from `offset` on, until it returns false.
    ///
    /// The kernel lets only one thread at a time read through one open directory, and what is left of a listing is
    /// taken by one, so no two come here with one descriptor.
    ///
    /// - Returns: Whether it came to the end.
    @discardableResult
    func forEach(from offset: off_t, _ body: (OpenDirectory.Listed) throws(Errno) -> Bool) throws(Errno) -> Bool {
        _ = try retryingInterrupts { lseek(directory.rawValue, offset, SEEK_SET) }
        while true {
            let block = try readBlock()
            guard !block.isEmpty else { return true }
            for entry in block {
                guard try body(entry) else { return false }
            }
        }
    }

    private func readBlock() throws(Errno) -> [OpenDirectory.Listed] {
        var block = [UInt8](repeating: 0, count: Self.blockSize)
        let count = try retryingInterrupts {
            // because the block is not empty.
            block.withUnsafeMutableBytes { getdents64(directory.rawValue, $0.baseAddress!, $0.count) }
        }
        var entries: [OpenDirectory.Listed] = []
        block.withUnsafeBytes { block in
            var rest = UnsafeRawBufferPointer(rebasing: block.prefix(count))
            while !rest.isEmpty {
                // struct linux_dirent64, getdents(2): d_ino 8, d_off 8, d_reclen 2, d_type 1, d_name
                let size = Int(rest.loadUnaligned(fromByteOffset: 16, as: UInt16.self))
                entries.append(
                    OpenDirectory.Listed(
                        name: NodeName(rest[19..<size].prefix { $0 != 0 }), number: rest.loadUnaligned(as: ino_t.self),
                        kind: mode_t(rest[18]) << 12,
                        nextOffset: rest.loadUnaligned(fromByteOffset: 8, as: off_t.self)))
                rest = UnsafeRawBufferPointer(rebasing: rest[size...])
            }
        }
        return entries
    }
}
