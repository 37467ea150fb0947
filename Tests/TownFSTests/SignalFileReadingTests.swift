import CLinux
import Fuse
import Glibc
import Linux
import Liveness
import SystemPackage
import Testing

@testable import TownFS

@Suite(.timeLimit(.minutes(5))) struct SignalFileReadingTests {
    private let keepalive = ".runtime/keepalive.json"

    // MARK: Reading

    @Test func openFileIsASnapshotHoweverManyReads() throws {
        try withTown { town in
            let first = document("first and quite a bit longer", at: town.now)
            try town.write(first, to: keepalive)
            let handle = try town.open(keepalive)
            var read = ""
            for offset in 0..<first.utf8.count {
                try town.write(document("\(offset)", at: town.now), to: keepalive, by: .other)
                read += try town.read(handle, at: off_t(offset), room: 1)
            }
            #expect(read == first)
            #expect(try town.read(handle, at: off_t(first.utf8.count)) == "")
            town.release(handle)
        }
    }

    @Test func snapshotOfARealFileOutlivesItsReplacement() throws {
        let old = document("old", at: WallTime(seconds: 1_000_000_000))
        try withTown([keepalive: old]) { town in
            let handle = try town.open(keepalive)
            try town.write(document("new", at: town.now), to: keepalive, by: .other)
            town.writeback()
            #expect(try town.read(handle) == old)
            town.release(handle)
        }
    }

    @Test func readersSeeTheCommittedDocumentDuringAWrite() throws {
        try withTown { town in
            let before = document("before", at: town.now)
            try town.write(before, to: keepalive, by: .other)
            let handle = try town.open(keepalive, O_WRONLY | O_TRUNC, by: .other)
            #expect(try town.read(keepalive) == before)
            #expect(try town.stat(keepalive).st_size == before.utf8.count)
            try town.write("{\"half", to: handle, by: .other)
            #expect(try town.read(keepalive) == before)
            #expect(try town.stat(keepalive).st_size == before.utf8.count)
            town.release(handle)
        }
    }

    /// Go and Node call fstat(2) between open and read and trust its size.
    @Test func fstatAgreesWithTheReadThatFollows() throws {
        try withTown { town in
            let first = document("first and longer", at: town.now)
            try town.write(first, to: keepalive)
            let handle = try town.open(keepalive)
            try town.write(document("2nd", at: town.now), to: keepalive, by: .other)
            #expect(try town.stat(keepalive).st_size == first.utf8.count)
            #expect(try town.stat(keepalive, by: .other).st_size == document("2nd", at: town.now).utf8.count)
            #expect(try town.read(handle) == first)
            #expect(try town.stat(keepalive).st_size == document("2nd", at: town.now).utf8.count)
            town.release(handle)
        }
    }

    @Test func fstatOfAReaderDoesNotShowAnotherThreadsDraft() throws {
        try withTown { town in
            let text = document("whole", at: town.now)
            try town.write(text, to: keepalive)
            let (hasOpened, mayClose) = (try EventFD(), try EventFD())
            let writer = try Thread(named: "writer") {
                let handle = try? town.open(keepalive, O_WRONLY | O_TRUNC)
                hasOpened.signal()
                mayClose.wait()
                if let handle { town.release(handle) }
            }
            hasOpened.wait()
            let handle = try town.open(keepalive)
            #expect(try town.stat(keepalive).st_size == text.utf8.count)
            #expect(try town.read(handle) == text)
            town.release(handle)
            mayClose.signal()
            writer.join()
        }
    }

    @Test func writerSeesTheSizeOfItsDraft() throws {
        try withTown { town in
            let handle = try town.open(keepalive, O_RDWR | O_CREAT | O_TRUNC)
            try town.write("{\"a\"", to: handle)
            #expect(try town.stat(keepalive).st_size == 4)
            #expect(try town.read(handle) == "{\"a\"")
            try town.setattr(keepalive, handle: handle) { $0.size = 6 }
            #expect(try town.read(handle) == "{\"a\"\0\0")
            #expect(try !town.exists(keepalive, by: .other))
            town.release(handle)
        }
    }

    @Test func seekFindsNoHoles() throws {
        try withTown { town in
            try town.write("{}", to: keepalive)
            let size = try town.stat(keepalive).st_size
            let handle = try town.open(keepalive)
            #expect(try town.lseek(handle, offset: 1, whence: 3) == 1)
            #expect(try town.lseek(handle, offset: 1, whence: clinux_seek_hole) == size)
            for offset in [-1, size, size + 1] {
                #expect(throws: Errno.noSuchAddressOrDevice) {
                    try town.lseek(handle, offset: offset, whence: 3)
                }
            }
            town.release(handle)
        }
    }

    // MARK: Kernel caches

    @Test func attributesAreCachedOnlyWithoutWriters() throws {
        try withTown { town in
            try town.write("{}", to: keepalive)
            let inode = try town.lookup(keepalive).inode
            // Another thread has just written.
            #expect(try town.getattr(inode, for: .other).timeout == 0)
            #expect(try town.getattr(inode, for: .me).timeout > 0)
            town.advance(by: .seconds(1))
            #expect(try town.getattr(inode, for: .other).timeout > 0)
            let handle = try town.open(keepalive, O_WRONLY | O_TRUNC)
            #expect(try town.getattr(inode, for: .other).timeout == 0)
            try town.close(handle)
            #expect(try town.getattr(inode, for: .other).timeout == 0)
            town.advance(by: .seconds(1))
            #expect(try town.getattr(inode, for: .other).timeout > 0)
        }
    }
}
