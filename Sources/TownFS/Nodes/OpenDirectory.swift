import CLinux
import Fuse
import Glibc
import Synchronization
import SystemCalls
import SystemPackage

/// A directory that is open to be listed.
///
/// An ordinary directory is streamed, with the offsets of the file system beneath. One in which signal files can lie is
/// listed as a whole when it is read from the start, and the lower halves of its offsets count entries.
final class OpenDirectory: Sendable {
    /// One entry, as listed.
    struct Listed: Sendable {
        let name: NodeName
        /// `d_ino`.
        var number: ino_t
        /// The file type, as in `st_mode`; 0 when the file system beneath does not say.
        let kind: mode_t
        /// Where to go on after this entry.
        var nextOffset: off_t = 0

        init(name: NodeName, number: ino_t, kind: mode_t, nextOffset: off_t = 0) {
            self.name = name
            self.number = number
            self.kind = kind
            self.nextOffset = nextOffset
        }

        /// Whether it is `.` or `..`.
        var isDots: Bool {
            let bytes = name.bytes
            return bytes.count <= 2 && bytes.allSatisfy { $0 == UInt8(ascii: ".") }
        }
    }

    private enum Source: Sendable {
        case stream(DirectoryStream, shown: @Sendable (ino_t) -> ino_t)
        case listing(@Sendable () throws(Errno) -> [Listed])
    }

    private let source: Source
    /// What a listing found when it was last read from the start.
    private let listed = Mutex<[Listed]?>(nil)
    /// The upper half of a listing's offsets.
    private let number: UInt32
    /// The real directory, where there is one to be synchronized.
    let real: Descriptor?

    /// - Parameter shown: What an inode number beneath is shown as.
    init(streaming real: Descriptor, shown: @escaping @Sendable (ino_t) -> ino_t) {
        source = .stream(DirectoryStream(real), shown: shown)
        self.real = real
        number = 0
    }

    /// - Parameter number: Tells its offsets from other listings'; at most `Int32.max`.
    init(
        real: Descriptor? = nil, numbered number: UInt32, listing: @escaping @Sendable () throws(Errno) -> [Listed]
    ) {
        source = .listing(listing)
        self.real = real
        self.number = number
    }

    /// Calls `body` with each entry from `offset` on, until it answers false.
    ///
    /// - Returns: Whether it came to the end.
    func forEach(from offset: off_t, _ body: (Listed) throws(Errno) -> Bool) throws(Errno) -> Bool {
        switch source {
        case .stream(let stream, let shown):
            return try stream.forEach(from: offset) { (listed) throws(Errno) in
                var entry = listed
                entry.number = shown(entry.number)
                return try body(entry)
            }
        case .listing(let list):
            let first = Int(UInt32(truncatingIfNeeded: offset))
            for (index, listed) in try entries(from: offset, list).enumerated().dropFirst(first) {
                var entry = listed
                entry.nextOffset = off_t(number) << 32 | off_t(index + 1)
                guard try body(entry) else { return false }
            }
            return true
        }
    }

    private func entries(from offset: off_t, _ list: () throws(Errno) -> [Listed]) throws(Errno) -> [Listed] {
        if offset > 0, let known = listed.withLock({ $0 }) { return known }
        let fresh = try list()
        listed.withLock { $0 = fresh }
        return fresh
    }
}

/// The entries of a real directory, read in blocks.
///
/// The corresponding C function is `getdents64`.
struct DirectoryStream: Sendable {
    private let directory: Descriptor
    /// Bytes read at a time: a few hundred entries.
    private static let blockSize = 32 << 10

    init(_ directory: Descriptor) {
        self.directory = directory
    }

    /// Calls `body` with each entry from `offset` on, until it answers false.
    ///
    /// The kernel lets only one thread at a time read through one open directory, and what is left of a listing is taken by one, so
    /// no two come here with one descriptor.
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
        var failure: Errno?
        let entries = withUnsafeTemporaryAllocation(byteCount: Self.blockSize, alignment: 8) { room in
            var entries: [OpenDirectory.Listed] = []
            do throws(Errno) {
                let count = try retryingInterrupts {
                    // because a temporary allocation of more than no bytes has an address.
                    getdents64(directory.rawValue, room.baseAddress!, room.count)
                }
                var position = 0
                while position < count {
                    // struct linux_dirent64, getdents(2): d_ino 8, d_off 8, d_reclen 2, d_type 1, d_name
                    let record = UnsafeRawBufferPointer(rebasing: room[position...])
                    let size = Int(record.loadUnaligned(fromByteOffset: 16, as: UInt16.self))
                    let name = record[19..<size].prefix { $0 != 0 }
                    entries.append(
                        OpenDirectory.Listed(
                            name: NodeName(name), number: record.loadUnaligned(as: ino_t.self),
                            kind: mode_t(record[18]) << 12,
                            nextOffset: record.loadUnaligned(fromByteOffset: 8, as: off_t.self)))
                    position += size
                }
            } catch {
                failure = error
            }
            return entries
        }
        if let failure { throw failure }
        return entries
    }
}
