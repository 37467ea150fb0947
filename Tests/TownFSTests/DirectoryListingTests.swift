import CLinux
import Fuse
import Glibc
import Liveness
import SystemPackage
import Testing

@testable import TownFS

@Suite(.timeLimit(.minutes(5))) struct DirectoryListingTests {
    /// Two files with one inode number on two devices: tar would take them for hard links.
    @Test(.enabled(if: geteuid() == 0, "mounting takes root"))
    func filesOfOtherDevicesHaveNumbersOfTheirOwn() throws {
        try withTown(["one/x": "1", "two/x": "2"]) { town in
            for name in ["one", "two"] {
                #expect(mount("tmpfs", "\(town.tree)/\(name)", "tmpfs", 0, nil) == 0)
            }
            defer { for name in ["one", "two"] { umount2("\(town.tree)/\(name)", CInt(MNT_DETACH)) } }
            for name in ["one", "two"] { try town.writeBacking("text", to: "\(name)/f") }
            let (one, two) = (try town.statBacking("one/f"), try town.statBacking("two/f"))
            try #require(one.st_ino == two.st_ino && one.st_dev != two.st_dev)
            for name in ["one", "two"] {
                let number = try town.stat("\(name)/f").st_ino
                let directory = try town.lookup(name).inode
                let opened = try town.opendir(directory, for: .me).handle
                defer { town.releasedir(opened) }
                let listed = try town.list(directory, opened).first { $0.name == Array("f".utf8) }
                #expect(listed?.number == UInt64(number))
            }
            #expect(try town.stat("one/f").st_ino != town.stat("two/f").st_ino)
            #expect(try town.stat("daemon").st_ino == town.statBacking("daemon").st_ino)
        }
    }

    @Test(
        arguments: ["backing only", "touched", "touched over a backing file", "written back"],
        TestTown.Opening.allCases)
    func signalFileIsListedOnce(_ state: String, _ opening: TestTown.Opening) throws {
        try withTown(["daemon/daemon.pid": "1"]) { town in
            let path = "daemon/activity.json"
            if state.contains("backing") { try town.writeBacking("{}", to: path) }
            if state != "backing only" { try town.write("{}", to: path) }
            if state == "written back" { town.writeback() }
            #expect(try town.names("daemon") == ["activity.json", "daemon.pid"])
            let inode = try town.lookup("daemon").inode
            try town.opening(inode, opening) { handle in
                for withLookup in [false, true] {
                    let listed = try town.list(inode, handle, withLookup: withLookup)
                    let entry = try #require(listed.first { $0.text == "activity.json" })
                    let number = try town.stat(path).st_ino
                    #expect(entry.number == number)
                    #expect(entry.kind == S_IFREG)
                }
            }
        }
    }

    @Test func removedFileIsNotListed() throws {
        try withTown(["daemon/activity.json": "{}"]) { town in
            try town.unlink("daemon/activity.json")
            #expect(try town.names("daemon") == [])
        }
    }

    @Test func fileBeforeItsFirstCommitIsNotListed() throws {
        try withTown { town in
            let handle = try town.open("daemon/activity.json", O_WRONLY | O_CREAT)
            #expect(try town.names("daemon") == [])
            try town.close(handle)
            #expect(try town.names("daemon") == ["activity.json"])
        }
    }

    @Test(arguments: ["daemon/.pulsefs-activity.json", "daemon/.pulsefs-0123456789abcdef"])
    func temporaryFileOfAWriteBackIsNeverSeen(_ path: String) throws {
        try withTown { town in
            try town.writeBacking("half", to: path)
            try town.write("{}", to: "daemon/activity.json")
            #expect(try town.names("daemon") == ["activity.json"])
            #expect(try !town.exists(path))
            #expect(throws: Errno.noSuchFileOrDirectory) { try town.unlink(path) }
            #expect(throws: Errno.notPermitted) { try town.write("mine", to: path) }
            #expect(throws: Errno.notPermitted) { try town.mkdir(path) }
            #expect(throws: Errno.notPermitted) { try town.rename("daemon/activity.json", to: path) }
            #expect(try town.readBacking(path) == "half")
            // It is no reason for the directory not to be empty.
            try town.unlink("daemon/activity.json")
            try town.rmdir("daemon")
        }
    }

    @Test func temporaryFilesOfACrashAreRemovedAtStart() throws {
        let left = ["daemon/.pulsefs-activity.json", "daemon/.pulsefs-0123456789abcdef"]
        try withTown(Dictionary(uniqueKeysWithValues: (left + ["daemon/.pulsefs-notes"]).map { ($0, "") })) { town in
            let (backing, shown) = (try town.backingNames("daemon"), try town.names("daemon"))
            #expect(backing == [".pulsefs-notes"])
            #expect(shown == [".pulsefs-notes"])
        }
    }

    @Test func otherKindsOfASignalFilesNameAreListedAsTheyAre() throws {
        try withTown { town in
            try town.mkdir("daemon/activity.json")
            let inode = try town.lookup("daemon").inode
            let handle = try town.opendir(inode, for: .me).handle
            let entry = try #require(try town.list(inode, handle).first { $0.text == "activity.json" })
            #expect(entry.kind == S_IFDIR)
            let number = try town.statBacking("daemon/activity.json").st_ino
            #expect(entry.number == number)
            town.releasedir(handle)
        }
    }

    @Test func pulseIsForLookupOnly() throws {
        try withTown { town in
            #expect(try town.names("") == [".runtime", "daemon", "deacon"])
            let entry = try town.lookup(".pulse")
            #expect(entry.inode == PulseInodes.top)
            #expect(entry.status.isDirectory)
            #expect(try town.names(".pulse") == ["alive", "events", "metrics", "runtimes", "status.json"])
            #expect(throws: Errno.fileExists) { try town.mkdir(".pulse") }
            #expect(throws: Errno.notPermitted) { try town.rmdir(".pulse") }
            #expect(throws: Errno.isDirectory) { try town.unlink(".pulse") }
            #expect(throws: Errno.notPermitted) { try town.rename(".pulse", to: "x") }
            #expect(throws: Errno.notPermitted) { try town.write("", to: ".pulse/x") }
            // Only in the root directory.
            #expect(try !town.exists("daemon/.pulse"))
        }
    }

    @Test func runtimesAreFoundByTheirIdsAndDirectoriesComeAndGoWithThem() throws {
        try withTown { town in
            for id in ["mayor", "gastown/polecats/furiosa", "gastown/polecats/nux"] {
                try town.town.liveness.touch(RuntimeID(id), ttl: .seconds(90))
            }
            #expect(try town.names(".pulse/runtimes") == ["gastown", "mayor.json"])
            #expect(try town.names(".pulse/runtimes/gastown") == ["polecats"])
            #expect(try town.names(".pulse/runtimes/gastown/polecats") == ["furiosa.json", "nux.json"])
            #expect(try town.stat(".pulse/runtimes/gastown").isDirectory)
            #expect(try town.read(".pulse/runtimes/mayor.json").contains("\"state\" : \"alive\""))
            for name in [
                "nobody.json", "mayor", "gastown.json", "gastown/x", "gastown/polecats/nux.json.json", "\u{e9}.json",
            ] {
                #expect(try !town.exists(".pulse/runtimes/\(name)"), "\(name)")
            }
            town.advance(by: .seconds(91))
            #expect(try town.read(".pulse/runtimes/mayor.json").contains("\"state\" : \"expired\""))

            let directory = try town.lookup(".pulse/runtimes/gastown").inode
            let file = try town.lookup(".pulse/runtimes/gastown/polecats/nux.json").inode
            for id in ["gastown/polecats/furiosa", "gastown/polecats/nux"] {
                town.town.liveness.forget(try RuntimeID(id))
            }
            #expect(try town.names(".pulse/runtimes") == ["mayor.json"])
            for inode in [directory, file] {
                #expect(throws: Errno.staleNFSFileHandle) { try town.getattr(inode, for: .me) }
                town.forget(inode, count: 1000)
                #expect(throws: Errno.staleNFSFileHandle) { try town.getattr(inode, for: .me) }
            }
        }
    }

    @Test func nothingIsMadeOrChangedAmongRuntimes() throws {
        try withTown { town in
            for id in ["mayor", "gastown/mayor"] { try town.town.liveness.touch(RuntimeID(id), ttl: .seconds(90)) }
            for name in [".pulse/runtimes", ".pulse/runtimes/gastown"] {
                #expect(throws: Errno.notPermitted) { try town.mkdir("\(name)/x") }
                #expect(throws: Errno.notPermitted) { try town.rmdir("\(name)/mayor.json") }
                #expect(throws: Errno.notPermitted) { try town.write("", to: "\(name)/x") }
                #expect(throws: Errno.notPermitted) { try town.rename("\(name)/mayor.json", to: "x") }
                #expect(throws: Errno.notPermitted) { try town.rename("daemon", to: "\(name)/x") }
            }
            #expect(throws: Errno.permissionDenied) { try town.open(".pulse/runtimes/gastown/mayor.json", O_WRONLY) }
        }
    }

    @Test func unlinkInRuntimesAlsoForgetsExpiredRuntimes() throws {
        try withTown { town in
            for id in ["mayor", "gastown/mayor"] { try town.town.liveness.touch(RuntimeID(id), ttl: .seconds(90)) }
            town.advance(by: .seconds(91))
            let events = town.town.liveness.lastEvent
            try town.unlink(".pulse/runtimes/gastown/mayor.json")
            #expect(town.town.liveness.record(of: try RuntimeID("gastown/mayor")) == nil)
            // Expiry is noticed at the next lookup.
            let said = town.town.liveness.events(from: events + 1, limit: 10).events.map(\.kind)
            #expect(said.contains(.forgotten) && !said.contains(.touched))
            #expect(try town.names(".pulse/runtimes") == ["mayor.json"])
            #expect(throws: Errno.noSuchFileOrDirectory) { try town.unlink(".pulse/runtimes/nobody.json") }
        }
    }

    @Test func statusIsReadWholeAndMatchesItsSize() throws {
        try withTown { town in
            try town.write("{}", to: "daemon/activity.json")
            let handle = try town.open(".pulse/status.json")
            let size = try town.stat(".pulse/status.json").st_size
            try town.write("{}", to: ".runtime/keepalive.json")
            let text = try town.read(handle)
            #expect(off_t(text.utf8.count) == size)
            #expect(text.contains("\"touches\" : 1"))
            town.release(handle)
            #expect(throws: Errno.permissionDenied) { try town.open(".pulse/status.json", O_WRONLY) }
        }
    }

    /// In replies of every size, a directory lists each name once.
    ///
    /// A reader that seeks to an offset resumes there.
    @Test(
        arguments: ["plain", "daemon"].flatMap { directory in
            TestTown.Opening.allCases.map { (directory, $0) }
        }, [300, 512, 4096, 65_536])
    func piecesOfAListingFitTogether(_ kind: (String, TestTown.Opening), _ room: Int) throws {
        let (directory, opening) = kind
        var files = Dictionary(uniqueKeysWithValues: (0..<200).map { ("\(directory)/file-\($0)", "") })
        files["\(directory)/" + String(repeating: "n", count: 255)] = ""
        try withTown(files) { town in
            if directory == "daemon" { try town.write("{}", to: "daemon/activity.json") }
            let expected = Set(
                files.keys.map { String($0.dropFirst(directory.count + 1)) } + [".", ".."]
                    + (directory == "daemon" ? ["activity.json"] : []))
            let inode = try town.lookup(directory).inode
            try town.opening(inode, opening) { handle in
                for withLookup in [false, true] where !withLookup || room >= 512 {
                    let all = try town.listAll(inode, handle, room: room, withLookup: withLookup)
                    #expect(all.count == expected.count)
                    #expect(Set(all.map(\.text)) == expected)
                    let again = try town.list(
                        inode, handle, from: all[100].nextOffset, room: room, withLookup: withLookup)
                    #expect(again.first?.text == all[101].text)
                }
            }
        }
    }

    @Test(arguments: TestTown.Opening.allCases)
    func offsetsHoldWhileNamesComeAndGo(_ opening: TestTown.Opening) throws {
        let files = Dictionary(uniqueKeysWithValues: (0..<20).map { ("daemon/file-\($0)", "") })
        try withTown(files) { town in
            let inode = try town.lookup("daemon").inode
            try town.opening(inode, opening) { handle in
                var all = try town.list(inode, handle, room: 400)
                try town.write("{}", to: "daemon/activity.json")
                try town.unlink("daemon/\(all[3].text)")
                all += try town.listAll(inode, handle, from: all[all.count - 1].nextOffset, room: 400)
                #expect(Set(all.map(\.text)) == Set((0..<20).map { "file-\($0)" } + [".", ".."]))
                #expect(all.count == 22)
                // From offset 0, the listing is current.
                #expect(try town.list(inode, handle).contains { $0.text == "activity.json" })
            }
        }
    }

    /// Without a handle, the request does not name the reader that continues.
    @Test(arguments: ["plain", "daemon"]) func readersOfOneDirectoryAreIndependent(_ directory: String) throws {
        let files = Dictionary(uniqueKeysWithValues: (0..<60).map { ("\(directory)/file-\($0)", "") })
        try withTown(files) { town in
            let inode = try town.lookup(directory).inode
            var one = try town.list(inode, .unopened, room: 800)
            // Remove what the first reader has seen; the second does not see it.
            for gone in one.filter({ $0.text.hasPrefix("file") }).prefix(5) {
                try town.unlink("\(directory)/\(gone.text)")
            }
            var other = try town.list(inode, .unopened, room: 800)
            one += try town.listAll(inode, .unopened, from: one[one.count - 1].nextOffset, room: 800)
            other += try town.listAll(inode, .unopened, from: other[other.count - 1].nextOffset, room: 800)
            #expect(one.count == 62 && Set(one).count == 62)
            #expect(other.count == 57 && Set(other).count == 57)
        }
    }

    /// A reader with a small buffer uses part of a reply and resumes earlier.
    ///
    /// It sees every other name even if it removes those it has seen.
    @Test(arguments: ["plain", "daemon", "", ".pulse/runtimes"], [false, true])
    func noNameIsSkippedWhereverAReaderResumes(_ directory: String, areDropped: Bool) throws {
        let names = (0..<150).map { "n\($0).json" }
        let isReal = !directory.hasPrefix(".pulse")
        let prefix = directory.isEmpty ? "" : "\(directory)/"
        let files = isReal ? Dictionary(uniqueKeysWithValues: names.map { ("\(prefix)\($0)", "") }) : [:]
        try withTown(files) { town in
            if !isReal {
                for name in names {
                    try town.town.liveness.touch(RuntimeID(String(name.dropLast(5))), ttl: .seconds(90))
                }
            }
            let inode = try town.lookup(directory).inode
            let seen = try listingALittle(of: inode, in: town, room: 4096) { name in
                if names.contains(name) { try town.unlink("\(prefix)\(name)") }
                // The offset of another reader's listing.
                if areDropped { town.listings.forget(inode) }
            }
            #expect(seen.filter(names.contains).sorted() == names.sorted())
            #expect(Set(seen).count == seen.count)
            #expect(try town.listAll(inode, .unopened).filter { names.contains($0.text) } == [])
        }
    }

    /// All names seen by a reader that uses up to seven entries of each reply and resumes after them.
    private func listingALittle(
        of inode: InodeNumber, in town: TestTown, room: Int, _ take: (String) throws -> Void
    ) throws -> [String] {
        var seen: [String] = []
        var offset: off_t = 0
        while case let listed = try town.list(inode, .unopened, from: offset, room: room), !listed.isEmpty {
            let taken = listed.prefix(7)
            offset = taken[taken.count - 1].nextOffset
            seen += taken.map(\.text)
            for name in taken.map(\.text) { try take(name) }
        }
        return seen
    }

    /// Where offsets have no meaning across openings, each opening reads the whole directory.
    @Test(.enabled(if: geteuid() == 0, "mounting takes root")) func overlaysAreListedWithoutGaps() throws {
        try withTown(["over/x": ""]) { town in
            #expect(mount("tmpfs", "\(town.tree)/over", "tmpfs", 0, nil) == 0)
            defer { umount2("\(town.tree)/over", CInt(MNT_DETACH)) }
            for name in ["lower", "upper", "work", "merged"] { try makeDirectories("\(town.tree)/over/\(name)/d") }
            let layers = ["lower", "upper", "work"].map { "\($0)dir=\(town.tree)/over/\($0)" }.joined(separator: ",")
            try #require(mount("overlay", "\(town.tree)/over/merged", "overlay", 0, layers) == 0)
            defer { umount2("\(town.tree)/over/merged", CInt(MNT_DETACH)) }
            for number in 0..<100 {
                try town.writeBacking("", to: "over/\(number < 10 ? "lower" : "merged")/d/f\(number)")
            }
            let inode = try town.lookup("over/merged/d").inode
            let seen = try listingALittle(of: inode, in: town, room: 1000) { name in
                if name.hasPrefix("f") { try town.unlink("over/merged/d/\(name)") }
            }
            #expect(seen.count == 102 && Set(seen).count == 102)
        }
    }

    /// A directory that vanished from the backing tree is ESTALE, not empty: the kernel then looks the name up again.
    @Test func directoryRemovedFromTheBackingTreeIsStale() throws {
        try withTown(["plain/d/f": ""]) { town in
            let inode = try town.lookup("plain/d").inode
            #expect(try town.listAll(inode, .unopened).count == 3)
            for path in ["plain/d/f", "plain/d"] { #expect(remove("\(town.tree)/\(path)") == 0) }
            #expect(throws: Errno.staleNFSFileHandle) { try town.list(inode, .unopened) }
        }
    }

    /// Listings abandoned in the middle use little memory; a reader that returns can resume.
    @Test(arguments: ["plain", "daemon"]) func abandonedListingsAreEvicted(_ kind: String) throws {
        let count = Listings.most + 20
        let files = Dictionary(
            uniqueKeysWithValues: (0..<count).flatMap { directory in
                (0..<10).map { ("\(directory)/\(kind)/\($0)", "") }
            })
        try withTown(files, patterns: ["*/daemon/*.json"]) { town in
            var begun: [(inode: InodeNumber, listed: [Listed])] = []
            for directory in 0..<count {
                let inode = try town.lookup("\(directory)/\(kind)").inode
                begun.append((inode, try town.list(inode, .unopened, room: 100)))
            }
            #expect(town.listings.count == Listings.most)
            for (inode, listed) in begun {
                let rest = try town.listAll(inode, .unopened, from: listed[listed.count - 1].nextOffset)
                #expect(Set((listed + rest).map(\.text)).count == 12)
            }
            for (inode, _) in begun { town.forget(inode, count: 1) }
            #expect(town.listings.count == 0)
        }
    }

    /// A listing in use is kept whatever its size; others are evicted.
    @Test func listingsAreKeptUpToAnAmount() throws {
        let listings = Listings()
        let entries = (0..<Listings.mostEntries / 2 + 1).map {
            OpenDirectory.Listed(name: NodeName(Array("\($0)".utf8)), number: 1, kind: 0)
        }
        let half = try OpenDirectory(listing: { () throws(Errno) in entries }).snapshot()
        for inode in 1...3 as ClosedRange<UInt64> {
            listings.keep(half, of: InodeNumber(rawValue: inode), at: 1)
            #expect(listings.count == 1)
        }
        #expect(listings.find(of: InodeNumber(rawValue: 2), at: 1) == nil)
        #expect(listings.find(of: InodeNumber(rawValue: 3), at: 1) === half)
        listings.end(of: InodeNumber(rawValue: 3))
        #expect(listings.count == 0)
    }

    @Test(arguments: [("plain", true), ("daemon", false), (".pulse", false), (".pulse/runtimes", false)])
    func listingReportsWhetherItMayBeCached(_ directory: String, _ isKept: Bool) throws {
        for sharesBacking in [false, true] {
            try withTown(["plain/f": "", "daemon/f": ""], sharesBacking: sharesBacking) { town in
                let inode = try town.lookup(directory).inode
                // A second read from the same offset gives the same reply.
                for _ in 0..<2 {
                    let last = try town.listAll(inode, .unopened).last
                    for withLookup in [false, true] {
                        let size = try town.listedSize(
                            inode, .unopened, from: last?.nextOffset ?? 0, withLookup: withLookup)
                        #expect((size == 0) == (isKept && !sharesBacking))
                        #expect(size < MemoryLayout<fuse_dirent>.size)
                    }
                }
            }
        }
    }

    @Test func listingWithLookupCountsEachLookupOnce() throws {
        let files = Dictionary(uniqueKeysWithValues: (0..<50).map { ("plain/file-\($0)", "") })
        try withTown(files) { town in
            let inode = try town.lookup("plain").inode
            let handle = FileHandle.unopened
            var offset: off_t = 0
            while let last = try town.list(inode, handle, from: offset, room: 1000, withLookup: true).last {
                let listed = try town.list(inode, handle, from: offset, room: 1000, withLookup: true)
                // Twice: the loop reads ahead.
                for entry in listed where entry.inode != 0 {
                    town.forget(InodeNumber(rawValue: entry.inode), count: 2)
                }
                offset = last.nextOffset
            }
            #expect(town.nodes.count == 2)
        }
    }

    @Test func closedListingIsNotAHandle() throws {
        try withTown { town in
            let handle = try town.opendir(.root, for: .me).handle
            town.releasedir(handle)
            #expect(throws: Errno.badFileDescriptor) { try town.list(.root, handle) }
        }
    }
}
