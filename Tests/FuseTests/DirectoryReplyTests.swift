import CFuse
import CLinux
import Glibc
import Testing

@testable import Fuse

/// The layout of listings, compared with libfuse's.
@Suite struct DirectoryReplyTests {
    @Test(arguments: [0, 1, 7, 8, 9, 255], [false, true])
    func entriesAreLaidOutAsByLibfuse(nameLength: Int, plus: Bool) throws {
        let name = [UInt8](repeating: 0x62, count: nameLength) + [0]
        var status = RecordingFileSystem.status
        let ours = try listing { (reply, _) in
            name.withUnsafeBytes { name in
                // because the name has at least its NUL.
                let name = FileName(borrowing: name.baseAddress!.assumingMemoryBound(to: CChar.self))
                return plus
                    ? reply.add(name, entry: RecordingFileSystem.entry, nextOffset: 0x7766_5544_3322_1100)
                    : reply.add(name, number: status.st_ino, mode: status.st_mode, nextOffset: 0x7766_5544_3322_1100)
            }
        }
        var room = [CChar](repeating: 0x55, count: 4096)
        let size = name.withUnsafeBytes { name in
            let name = name.baseAddress?.assumingMemoryBound(to: CChar.self)
            guard plus else {
                return fuse_add_direntry(nil, &room, room.count, name, &status, 0x7766_5544_3322_1100)
            }
            let entry = RecordingFileSystem.entry
            var parameters = fuse_entry_param()
            parameters.ino = entry.inode.rawValue
            parameters.generation = UInt64(entry.generation)
            parameters.attr = entry.status
            parameters.entry_timeout = entry.nameTimeout
            parameters.attr_timeout = entry.statusTimeout
            return fuse_add_direntry_plus(nil, &room, room.count, name, &parameters, 0x7766_5544_3322_1100)
        }
        #expect(ours == room.prefix(size).map { UInt8(bitPattern: $0) })
    }

    @Test func entryThatDoesNotFitLeavesTheReplyAlone() throws {
        let reply = try listing(capacity: 31) { reply, room in
            "a".withCString { reply.add(FileName(borrowing: $0), number: 1, mode: S_IFREG, nextOffset: 2) }
        }
        #expect(reply == [])
    }

    private func listing(
        capacity: Int = 4096, _ add: (inout DirectoryReply, UnsafeMutableRawBufferPointer) throws -> Bool
    ) throws -> [UInt8] {
        let room = UnsafeMutableRawBufferPointer.allocate(byteCount: capacity, alignment: 8)
        defer { room.deallocate() }
        var reply = DirectoryReply(room: room)
        let isAdded = try add(&reply, room)
        #expect(isAdded == (reply.used > 0))
        return Array(room.prefix(reply.used))
    }
}
