import Fuse
import Glibc
import Linux
import Synchronization
import SystemPackage
import Testing

@testable import TownFS

/// fstat(2) between open and read: the request does not name the open file.
@Suite struct FstatTests {
    private let keepalive = ".runtime/keepalive.json"

    private func document(_ filler: Int) -> String {
        #"{"last_command":"\#(String(repeating: "x", count: filler))","timestamp":"2020-01-01T00:00:00Z"}"#
    }

    /// An open file and its inode.
    private struct Opened {
        let inode: InodeNumber
        let handle: FileHandle
    }

    /// Opens as the kernel does: after ESTALE it looks the name up again, twice if it leads to another inode.
    private func open(
        _ town: TestTown, _ flags: CInt = O_RDONLY, by caller: Request = .me
    ) throws(Errno) -> Opened {
        let inode = try town.lookup(keepalive, by: caller).inode
        do throws(Errno) {
            return Opened(inode: inode, handle: try town.fileSystem.open(inode, flags: flags, for: caller).handle)
        } catch .staleNFSFileHandle {
            let other = try town.lookup(keepalive, by: caller).inode
            // The kernel forgets the first inode, before or after the second lookup.
            if Bool.random() { town.fileSystem.forget(other, count: 1) }
            let found = try town.lookup(keepalive, by: caller).inode
            return Opened(inode: found, handle: try town.fileSystem.open(found, flags: flags, for: caller).handle)
        }
    }

    private func size(_ town: TestTown, _ file: Opened, by caller: Request = .me) throws(Errno) -> off_t {
        try town.fileSystem.getattr(file.inode, for: caller).status.st_size
    }

    @Test func eachOpenFileOfOneProcessHasItsOwnSize() throws {
        try withTown { town in
            let sizes = [10, 300, 20, 300, 10, 7]
            var files: [Opened] = []
            for filler in sizes {
                try town.write(document(filler), to: keepalive, by: .other)
                files.append(try open(town))
            }
            for (file, filler) in zip(files, sizes).reversed() {
                let text = document(filler)
                #expect(try size(town, file) == text.utf8.count)
                #expect(try town.read(file.handle) == text)
            }
            for file in files { town.fileSystem.release(file.handle) }
        }
    }

    @Test func nameLeadsBackToTheFirstInode() throws {
        try withTown { town in
            try town.write(document(1), to: keepalive, by: .other)
            let first = try open(town)
            try town.write(document(2), to: keepalive, by: .other)
            let second = try open(town)
            #expect(second.inode != first.inode)
            #expect(try town.lookup(keepalive, by: .other).inode == first.inode)
            #expect(try town.lookup(keepalive).inode == first.inode)
            // A write to either inode changes the file.
            let writer = try town.fileSystem.open(second.inode, flags: O_WRONLY | O_TRUNC, for: .other).handle
            try town.write(document(3), to: writer, by: .other)
            try town.close(writer, by: .other)
            #expect(try town.read(keepalive, by: .other) == document(3))
            for file in [first, second] { town.fileSystem.release(file.handle) }
        }
    }

    /// For `/proc/self/fd`, the kernel does not look the name up, and opens the same inode again.
    @Test func openThatIsRetriedOnTheSameInodeSucceeds() throws {
        try withTown { town in
            try town.write(document(1), to: keepalive, by: .other)
            let first = try open(town)
            try town.write(document(2), to: keepalive, by: .other)
            #expect(throws: Errno.staleNFSFileHandle) {
                try town.fileSystem.open(first.inode, flags: O_RDONLY, for: .me)
            }
            let second = try town.fileSystem.open(first.inode, flags: O_RDONLY, for: .me).handle
            #expect(try town.read(second) == document(2))
            town.fileSystem.release(second)
            town.fileSystem.release(first.handle)
        }
    }

    @Test func childSeesTheOpenFileThatItInherited() throws {
        try withTown { town in
            try town.write(document(1), to: keepalive, by: .other)
            let file = try open(town)
            try town.write(document(200), to: keepalive, by: .other)
            try withChild { child in
                #expect(try size(town, file, by: child) == document(1).utf8.count)
                // Its own open file has another inode.
                let own = try open(town, by: child)
                #expect(own.inode != file.inode)
                #expect(try size(town, own, by: child) == document(200).utf8.count)
                town.fileSystem.release(own.handle)
            }
            #expect(try size(town, file, by: .other) == document(200).utf8.count)
            town.fileSystem.release(file.handle)
        }
    }

    /// Calls `body` with a request of a child process.
    private func withChild(_ body: (Request) throws -> Void) throws {
        var child: pid_t = 0
        let words: [UnsafeMutablePointer<CChar>?] = [strdup("sleep"), strdup("60"), nil]
        defer { words.forEach { free($0) } }
        try #require(posix_spawnp(&child, "sleep", nil, nil, words, nil) == 0)
        defer {
            kill(child, SIGKILL)
            waitpid(child, nil, 0)
        }
        try body(Request(user: getuid(), group: getgid(), thread: child))
    }

    /// Threads of another pid namespace all have the number 0.
    @Test func callersWithoutANumberAreDistinguishedByInodes() throws {
        try withTown { town in
            let caller = Request(user: getuid(), group: getgid(), thread: 0)
            try town.write(document(1), to: keepalive, by: .other)
            let first = try open(town, by: caller)
            try town.write(document(100), to: keepalive, by: .other)
            let second = try open(town, by: caller)
            #expect(try size(town, first, by: caller) == document(1).utf8.count)
            #expect(try size(town, second, by: caller) == document(100).utf8.count)
            #expect(try size(town, first, by: .other) == document(100).utf8.count)
            for file in [first, second] { town.fileSystem.release(file.handle) }
        }
    }

    @Test func openFileOfAnEndedThreadBelongsToItsProcess() throws {
        try withTown { town in
            try town.write(document(1), to: keepalive, by: .other)
            let opened = Mutex<Opened?>(nil)
            let opener = try Thread(named: "opener") {
                let file = try? open(town)
                opened.withLock { $0 = file }
            }
            opener.join()
            let file = try #require(opened.withLock { $0 })
            try town.write(document(200), to: keepalive, by: .other)
            #expect(try size(town, file) == document(1).utf8.count)
            town.fileSystem.release(file.handle)
        }
    }

    @Test func readersSizeOverridesThatOfADraft() throws {
        try withTown { town in
            try town.write(document(1), to: keepalive)
            let reader = try open(town)
            let writer = try town.open(keepalive, O_WRONLY | O_TRUNC)
            try town.write("{", to: writer)
            #expect(try size(town, reader) == document(1).utf8.count)
            try town.write(document(5), to: writer)
            try town.close(writer)
            #expect(try town.read(reader.handle) == document(1))
            #expect(try size(town, reader) == document(5).utf8.count)
            town.fileSystem.release(reader.handle)
        }
    }

    /// A file renamed over the signal file is another inode; a process with the old one open still gets its size.
    @Test func openFileThatWasReplacedKeepsItsSize() throws {
        try withTown { town in
            try town.write(document(1), to: keepalive)
            let first = try open(town)
            for filler in [50, 100] {
                let temporary = ".runtime/temporary"
                try town.write(document(filler), to: temporary, by: .other)
                try town.rename(temporary, to: keepalive, by: .other)
                let second = try open(town)
                #expect(try size(town, first) == document(1).utf8.count)
                #expect(try size(town, second) == document(filler).utf8.count)
                #expect(try town.read(second.handle) == document(filler))
                town.fileSystem.release(second.handle)
            }
            #expect(try town.read(first.handle) == document(1))
            town.fileSystem.release(first.handle)
        }
    }

    // MARK: Kernel caches

    @Test func attributesAreNotCachedWhileAReaderMeetsAWriter() throws {
        try withTown { town in
            try town.write(document(1), to: keepalive, by: .other)
            func timeout(by caller: Request = .me) throws -> Double {
                try town.fileSystem.getattr(town.lookup(keepalive, by: caller).inode, for: caller).timeout
            }
            // The thread that wrote reads what it wrote: it is not in fstat(2) while it writes.
            #expect(try timeout(by: .other) > 0)
            #expect(try timeout() == 0)
            let file = try open(town)
            #expect(try timeout(by: .other) == 0)
            town.advance(by: .milliseconds(20))
            #expect(try timeout() > 0)
            #expect(try timeout(by: .other) > 0)
            town.fileSystem.release(file.handle)
        }
    }

    /// The kernel marks cached attributes as valid before it stores the size.
    @Test func firstReplyAfterAWriteIsNotKeptBesideAnotherReader() throws {
        try withTown { town in
            func timeout(by caller: Request = .me) throws -> Double {
                try town.fileSystem.getattr(town.lookup(keepalive, by: caller).inode, for: caller).timeout
            }
            try town.write(document(1), to: keepalive, by: .other)
            town.advance(by: .milliseconds(20))
            #expect(try timeout() > 0)
            try town.write(document(2), to: keepalive, by: .other)
            town.advance(by: .milliseconds(20))
            let file = try open(town)
            #expect(try timeout(by: .other) == 0)
            town.advance(by: .milliseconds(20))
            #expect(try timeout(by: .other) > 0)
            town.fileSystem.release(file.handle)
        }
    }

    @Test func cachedAttributesAreInvalidatedOnceAReaderAndAWriterMeet() {
        let (reader, writer): (pid_t, pid_t) = (10, 20)
        let (inode, other) = (InodeNumber(rawValue: 5), InodeNumber(rawValue: 6))
        let start = ContinuousClock.now
        var caching = AttributeCaching()
        func isInvalidated(_ inode: InodeNumber, at now: ContinuousClock.Instant) -> Bool {
            caching.removeInvalidation(of: inode, at: now)
        }
        #expect(!isInvalidated(inode, at: start))
        caching.sendValid(of: inode, for: 1, at: start)
        #expect(!caching.isContended(for: reader, at: start))
        caching.recordChange(by: writer, at: start)
        #expect(caching.isContended(for: reader, at: start))
        #expect(!caching.isContended(for: writer, at: start))
        #expect(!isInvalidated(other, at: start))
        #expect(isInvalidated(inode, at: start + .milliseconds(1050)))
        #expect(!isInvalidated(inode, at: start))
        caching.recordChange(by: reader, at: start)
        #expect(caching.isContended(for: writer, at: start))
        #expect(caching.isContended(for: reader, at: start))
        #expect(!caching.isContended(for: reader, at: start + .milliseconds(20)))
        #expect(caching.isBusy(for: reader, at: start + .milliseconds(20)))
        #expect(!caching.isBusy(for: reader, at: start + .seconds(1)))
        // Threads of another pid namespace cannot be distinguished.
        caching.recordChange(by: 0, at: start + .seconds(5))
        #expect(caching.isContended(for: 0, at: start + .seconds(5)))
        caching.sendValid(of: nil, for: 1, at: start)
        #expect(isInvalidated(inode, at: start))
        #expect(!isInvalidated(inode, at: start + .seconds(2)))
    }
}
