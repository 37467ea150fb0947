import Fuse
import Glibc
import Liveness
import SystemPackage
import TestSupport
import Testing

@testable import TownFS

@Suite(.timeLimit(.minutes(5))) struct AliveDirectoryTests {
    private let alive = ".pulse/alive"

    private func isAlive(_ id: String, in town: TestTown) throws -> Bool {
        town.town.liveness.isAlive(try RuntimeID(id))
    }

    private func ttlLeft(_ id: String, in town: TestTown) throws -> Duration? {
        town.town.liveness.record(of: try RuntimeID(id)).map { $0.deadline - town.town.now.instant }
    }

    // MARK: Touching

    @Test func createdFileIsTouchedAtClose() throws {
        try withTown { town in
            let handle = try town.open("\(alive)/mayor", O_WRONLY | O_CREAT)
            #expect(try !isAlive("mayor", in: town))
            #expect(try !town.exists("\(alive)/nobody"))
            try town.close(handle)
            #expect(try isAlive("mayor", in: town))
            #expect(try town.exists("\(alive)/mayor"))
            #expect(try town.stat("\(alive)/mayor").st_mode & 0o7777 == 0o644)
            #expect(town.town.liveness.lastEvent == 1)
            town.advance(by: .seconds(90))
            #expect(try !town.exists("\(alive)/mayor"))
            #expect(try town.names(alive) == [])
        }
    }

    /// bash closes a duplicate of the descriptor before it writes.
    @Test func durationIsWrittenOnce() throws {
        try withTown { town in
            let handle = try town.open("\(alive)/mayor", O_WRONLY | O_CREAT | O_TRUNC)
            try town.flush(handle, for: .me)
            try town.write("30s\n", to: handle)
            try town.close(handle)
            #expect(try ttlLeft("mayor", in: town) == .seconds(30))
            #expect(town.town.liveness.lastEvent == 1)
            try town.write("5m", to: "\(alive)/mayor")
            #expect(try ttlLeft("mayor", in: town) == .seconds(300))
            // A longer ttl granted before is not shortened.
            try town.write("1s\n", to: "\(alive)/mayor")
            #expect(try ttlLeft("mayor", in: town) == .seconds(300))
        }
    }

    @Test(arguments: ["forever", "0s", "30", "30 s", "s", "-5s", "1s\n2s", "99999999999999h", "30s\0"])
    func invalidDurationIsRejected(_ text: String) throws {
        try withTown { town in
            #expect(throws: Errno.invalidArgument) { try town.write(text, to: "\(alive)/mayor") }
            #expect(throws: Errno.invalidArgument) { try town.write(text + "\n", to: "\(alive)/mayor") }
            let isAlive = try isAlive("mayor", in: town)
            #expect(!isAlive)
            #expect(town.town.liveness.lastEvent == 0)
        }
    }

    @Test func moreThanADurationIsTooMuch() throws {
        try withTown { town in
            let text = String(repeating: "1", count: 100)
            #expect(throws: Errno.fileTooLarge) { try town.write(text, to: "\(alive)/mayor") }
            let handle = try town.open("\(alive)/mayor", O_WRONLY | O_CREAT)
            #expect(throws: Errno.invalidArgument) { try town.write("1", to: handle, at: 5) }
            #expect(throws: Errno.fileTooLarge) { try town.write("1", to: handle, at: .max) }
            try town.write("3", to: handle)
            try town.write("0s", to: handle, appending: true)
            try town.close(handle)
            #expect(try ttlLeft("mayor", in: town) == .seconds(30))
        }
    }

    @Test func settingTheTimeTouches() throws {
        try withTown { town in
            // touch(1): create, close a duplicate, set the time, close.
            let handle = try town.open("\(alive)/mayor", O_WRONLY | O_CREAT)
            try town.flush(handle, for: .me)
            let inode = try #require(town.openHandles.first { $0.inode != .root }?.inode)
            var changes = StatusChanges()
            changes.accessed = .now
            _ = try town.setattr(inode, changes, handle: nil, for: .me)
            #expect(try !isAlive("mayor", in: town))
            changes.modified = .now
            _ = try town.setattr(inode, changes, handle: nil, for: .me)
            #expect(try isAlive("mayor", in: town))
            try town.close(handle)
            #expect(town.town.liveness.lastEvent == 1)
            town.advance(by: .seconds(60))
            try town.setattr("\(alive)/mayor") { $0.modified = .at(timespec(tv_sec: 1, tv_nsec: 0)) }
            #expect(try ttlLeft("mayor", in: town) == .seconds(90))
            for change in [{ $0.mode = 0o600 }, { $0.user = 5 }] as [(inout StatusChanges) -> Void] {
                #expect(throws: Errno.notPermitted) { try town.setattr("\(alive)/mayor", change) }
            }
            #expect(throws: Errno.invalidArgument) { try town.setattr("\(alive)/mayor") { $0.size = 5 } }
            #expect(throws: Errno.notPermitted) { try town.setattr(alive) { $0.modified = .now } }
            #expect(throws: Errno.notPermitted) { try town.setattr(".pulse") { $0.modified = .now } }
        }
    }

    /// RELEASE comes later; the process that closed the file need not wait for it.
    @Test func closedFileIsVisibleToItsWriter() throws {
        try withTown { town in
            let handle = try town.open("\(alive)/mayor", O_WRONLY | O_CREAT)
            #expect(try !town.exists("\(alive)/mayor"))
            try town.flush(handle, for: .me)
            #expect(try !town.exists("\(alive)/mayor", by: .other))
            #expect(try town.exists("\(alive)/mayor"))
            town.release(handle)
            #expect(town.town.liveness.lastEvent == 1)
        }
    }

    @Test func readShowsTheRuntime() throws {
        try withTown { town in
            try town.write("", to: "\(alive)/mayor")
            let text = try town.read("\(alive)/mayor")
            #expect(text == (try town.read(".pulse/runtimes/mayor.json")))
            let handle = try town.open("\(alive)/mayor")
            town.advance(by: .seconds(1000))
            #expect(try town.read(handle) == text)
            town.release(handle)
        }
    }

    // MARK: Forgetting

    @Test func removedFileIsForgottenAndItsSuccessorIsAnother() throws {
        try withTown { town in
            try town.write("", to: "\(alive)/mayor")
            let former = try town.lookup("\(alive)/mayor").inode
            try town.unlink("\(alive)/mayor")
            #expect(town.town.liveness.record(of: try RuntimeID("mayor")) == nil)
            #expect(throws: Errno.noSuchFileOrDirectory) { try town.unlink("\(alive)/mayor") }
            try town.write("", to: "\(alive)/mayor")
            let new = try town.lookup("\(alive)/mayor")
            #expect(new.inode != former)
            #expect(new.status.st_ino == (try town.stat("\(alive)/mayor").st_ino))
            town.forget(former, count: 1)
            #expect(try town.lookup("\(alive)/mayor").inode == new.inode)
        }
    }

    // MARK: Directories

    @Test func directoriesAppearAndVanishWithTheirRuntimes() throws {
        try withTown { town in
            for id in ["mayor", "gastown/polecats/nux"] {
                try town.town.liveness.touch(RuntimeID(id), ttl: .seconds(90))
            }
            try town.town.liveness.touch(RuntimeID("gastown/witness"), ttl: .seconds(10))
            #expect(try town.names(alive) == ["gastown", "mayor"])
            #expect(try town.names("\(alive)/gastown") == ["polecats", "witness"])
            #expect(throws: Errno.directoryNotEmpty) { try town.rmdir("\(alive)/gastown") }
            #expect(throws: Errno.notDirectory) { try town.rmdir("\(alive)/mayor") }
            #expect(throws: Errno.isDirectory) { try town.unlink("\(alive)/gastown") }
            town.advance(by: .seconds(10))
            #expect(try town.names("\(alive)/gastown") == ["polecats"])
            town.advance(by: .seconds(80))
            #expect(try town.names(alive) == [])
            #expect(try !town.exists("\(alive)/gastown"))
        }
    }

    @Test func idWithIdsUnderItIsADirectory() throws {
        try withTown { town in
            try town.town.liveness.touch(RuntimeID("deacon"), ttl: .seconds(90))
            #expect(try town.names(alive) == ["deacon"])
            #expect(try town.stat("\(alive)/deacon").isRegularFile)
            try town.town.liveness.touch(RuntimeID("deacon/boot"), ttl: .seconds(10))
            #expect(try town.stat("\(alive)/deacon").isDirectory)
            #expect(try town.names("\(alive)/deacon") == ["@", "boot"])
            town.advance(by: .seconds(10))
            #expect(try town.names("\(alive)/deacon") == ["@"])
            try town.write("10m", to: "\(alive)/deacon/@")
            #expect(try ttlLeft("deacon", in: town) == .seconds(600))
            town.advance(by: .seconds(60))
            try town.setattr("\(alive)/deacon") { $0.modified = .now }
            #expect(town.town.liveness.record(of: try RuntimeID("deacon"))?.touch.at == town.town.now.instant)
            try town.unlink("\(alive)/deacon/@")
            #expect(try !town.exists("\(alive)/deacon"))
        }
    }

    @Test func directoryThatIsMadeStays() throws {
        try withTown { town in
            try town.mkdir("\(alive)/a")
            try town.mkdir("\(alive)/a/b")
            #expect(throws: Errno.fileExists) { try town.mkdir("\(alive)/a") }
            #expect(try town.names(alive) == ["a"])
            try town.write("", to: "\(alive)/a/b/c")
            #expect(try isAlive("a/b/c", in: town))
            #expect(throws: Errno.directoryNotEmpty) { try town.rmdir("\(alive)/a/b") }
            #expect(throws: Errno.directoryNotEmpty) { try town.rmdir("\(alive)/a") }
            town.advance(by: .seconds(90))
            #expect(try town.names("\(alive)/a/b") == [])
            try town.rmdir("\(alive)/a/b")
            try town.rmdir("\(alive)/a")
            #expect(try town.names(alive) == [])
            #expect(throws: Errno.noSuchFileOrDirectory) { try town.rmdir("\(alive)/a") }
            try town.write("", to: "\(alive)/m")
            #expect(throws: Errno.fileExists) { try town.mkdir("\(alive)/m") }
        }
    }

    @Test func directoriesAreBounded() throws {
        try withTown { town in
            for number in 0..<4096 { try town.mkdir("\(alive)/d\(number)") }
            #expect(throws: Errno.noSpace) { try town.mkdir("\(alive)/one-more") }
            try town.rmdir("\(alive)/d7")
            try town.mkdir("\(alive)/one-more")
        }
    }

    @Test func otherNameLeadsToAnyId() throws {
        try withTown { town in
            try town.write("", to: "\(alive)/deacon")
            // A file has that name, so the directory cannot be created.
            try town.write("", to: "\(alive)/deacon@/boot@/@")
            try town.write("", to: "\(alive)/new@/@")
            #expect(try town.names(alive) == ["deacon", "new"])
            #expect(try town.names("\(alive)/deacon") == ["@", "boot"])
            #expect(try town.names("\(alive)/deacon@") == ["@"])
            #expect(try isAlive("deacon/boot", in: town))
            try town.unlink("\(alive)/deacon@/boot@/@")
            #expect(try !isAlive("deacon/boot", in: town))
            for name in ["deacon@/boot", "@", "deacon@@", "@@", "x@/y"] {
                #expect(throws: Errno.invalidArgument, "\(name)") { try town.write("", to: "\(alive)/\(name)") }
            }
            #expect(throws: Errno.notPermitted) { try town.rmdir("\(alive)/deacon@") }
            #expect(throws: Errno.invalidArgument) { try town.mkdir("\(alive)/deacon@/x") }
        }
    }

    // MARK: Invalid names

    @Test(arguments: ["a\nb", "\u{7F}", "\u{202E}a", "%", "a%2", "%41", "%2f", "a%2Fb", "%2e%2e", "100%", "%0A", "%20"])
    func nameThatIsNoIdsIsRefused(_ name: String) throws {
        try withTown { town in
            #expect(throws: Errno.noSuchFileOrDirectory) { try town.lookup("\(alive)/\(name)") }
            #expect(throws: Errno.invalidArgument) { try town.write("", to: "\(alive)/\(name)") }
            #expect(throws: Errno.invalidArgument) { try town.mkdir("\(alive)/\(name)") }
            #expect(town.town.liveness.lastEvent == 0)
        }
    }

    // MARK: Ids of any text

    /// Ids, and their paths in `alive` and `runtimes`.
    private static let odd = [
        ("Jane's agent", "Jane's agent", "Jane's agent.json"), ("müller", "müller", "müller.json"),
        ("100%", "100%25", "100%25.json"), ("bob@", "bob%40", "bob%40.json"), ("a@b", "a@b", "a@b.json"),
        ("/home/x/agent", "%2Fhome/x/agent", "%2Fhome/x/agent.json"), ("a//b/", "a/%2Fb%2F", "a/%2Fb%2F.json"),
        ("..", "%2E%2E", "%2E%2E.json"), ("../c/.", "%2E%2E/c/%2E", "%2E%2E/c/%2E.json"), ("/", "%2F", "%2F.json"),
        ("x.json", "x.json", "x.json.json"), ("y.json/z", "y.json/z", "y%2Ejson/z.json"),
        ("\u{301}/\u{301}", "\u{301}/\u{301}", "\u{301}/\u{301}.json"), (" /x", " /x", " /x.json"),
        ("\u{600}", "\u{600}", "\u{600}.json"), ("\u{FFFD}", "\u{FFFD}", "\u{FFFD}.json"),
        ("q\\:*?\"<>|", "q\\:*?\"<>|", "q\\:*?\"<>|.json"),
    ]

    @Test(arguments: odd) func idHasItsFiles(_ id: String, _ path: String, _ report: String) throws {
        try withTown { town in
            // mkdir -p
            var directory = alive
            for name in path.utf8.split(separator: UInt8(ascii: "/")).dropLast() {
                directory += "/" + String(Substring(name))
                try town.mkdir(directory)
            }
            try town.write("", to: "\(alive)/\(path)")
            #expect(town.town.liveness.runtimes(in: "") == [try RuntimeID(id)])
            #expect(try town.stat("\(alive)/\(path)").isRegularFile)
            #expect(try town.read(".pulse/runtimes/\(report)").utf8.elementsEqual(town.read("\(alive)/\(path)").utf8))
            #expect(try PulsePaths.all(of: town, "runtimes") == [report])
            #expect(try PulsePaths.all(of: town, "alive") == [path])
            try town.unlink("\(alive)/\(path)")
            #expect(try !isAlive(id, in: town))

            // As `pulsefs touch` and `pulsefs forget` do.
            let names = try RuntimeID(id).names
            try town.write("30m\n", to: "\(alive)/\(names.map { $0 + "@/" }.joined())@")
            #expect(try ttlLeft(id, in: town) == .seconds(1800))
            #expect(try RuntimeID(id).reportPath == report)
            try town.unlink(".pulse/runtimes/\(report)")
            #expect(town.town.liveness.runtimes(in: "") == [])
            #expect(try !town.exists(".pulse/runtimes/\(report)"))
        }
    }

    @Test func idsThatLookAlikeAreDistinct() throws {
        try withTown { town in
            let ids = [
                "\u{E9}", "e\u{301}", "\u{E9}/a", "e\u{301}/a", "x", "x.json", "x.json/y", "x/", "x//", "x/y", "/x",
                "//x", "K",
                "\u{212A}", "\u{FFFD}", "a@", "a@/@", "%", "%25", "%2525",
            ]
            for id in ids { try town.town.liveness.touch(RuntimeID(id), ttl: .seconds(90)) }
            let reports = try PulsePaths.all(of: town, "runtimes")
            let expected = try ids.map { try RuntimeID($0).reportPath }
            #expect(Set(reports.map { Array($0.utf8) }) == Set(expected.map { Array($0.utf8) }))
            #expect(reports.count == ids.count)
            #expect(try PulsePaths.all(of: town, "alive").count == ids.count)
            var numbers: Set<ino_t> = []
            for report in reports { numbers.insert(try town.stat(".pulse/runtimes/\(report)").st_ino) }
            #expect(numbers.count == ids.count)
            try town.unlink("\(alive)/e\u{301}/@")
            #expect(try isAlive("\u{E9}", in: town))
            #expect(try !isAlive("e\u{301}", in: town))
            #expect(try town.names("\(alive)/e\u{301}") == ["a"])
        }
    }

    @Test func directoriesOfOddNamesStay() throws {
        try withTown { town in
            for name in [" ", "%2Fhome", "%2Fhome/\u{301}", "\u{E9}", "e\u{301}", "d.json", "d.json/%2Fe"] {
                try town.mkdir("\(alive)/\(name)")
            }
            #expect(throws: Errno.fileExists) { try town.mkdir("\(alive)/\u{E9}") }
            #expect(try town.names(alive).count == 5)
            #expect(try town.names("\(alive)/%2Fhome").map { Array($0.utf8) } == [Array("\u{301}".utf8)])
            #expect(throws: Errno.directoryNotEmpty) { try town.rmdir("\(alive)/%2Fhome") }
            #expect(throws: Errno.directoryNotEmpty) { try town.rmdir("\(alive)/d.json") }
            for name in ["d.json/%2Fe", "d.json", "%2Fhome/\u{301}", "%2Fhome", "e\u{301}"] {
                try town.rmdir("\(alive)/\(name)")
            }
            #expect(try town.names(alive).map { Array($0.utf8) } == [" ", "\u{E9}"].map { Array($0.utf8) })
            // No id lies in these.
            for name in ["a%2F", "%2F", "%2F%2F", "@", "a@"] {
                #expect(throws: Errno.invalidArgument, "\(name)") { try town.mkdir("\(alive)/\(name)") }
            }
            #expect(throws: Errno.noSuchFileOrDirectory) { try town.write("", to: "\(alive)/a%2F@/b@/@") }
        }
    }

    @Test func nameThatIsNotUTF8IsNoOther() throws {
        try withTown { town in
            try town.town.liveness.touch(RuntimeID("\u{FFFD}"), ttl: .seconds(90))
            let parent = try town.lookup(alive).inode
            #expect(try town.exists("\(alive)/\u{FFFD}"))
            #expect(throws: Errno.noSuchFileOrDirectory) { try town.lookup([0xFF], in: parent) }
            _ = try [0xFF].asFileName { (name) throws(Errno) in
                #expect(throws: Errno.invalidArgument) {
                    try town.mknod(name, in: parent, mode: S_IFREG | 0o644, device: 0, for: .me)
                }
            }
        }
    }

    @Test func encodedNameIsNoLongerThanAFileName() throws {
        try withTown { town in
            let most = String(repeating: "%25", count: 85)
            try town.write("", to: "\(alive)/\(most)")
            #expect(try isAlive(String(repeating: "%", count: 85), in: town))
            #expect(throws: Errno.fileNameTooLong) { try town.write("", to: "\(alive)/\(most)%25") }
            #expect(throws: Errno.fileNameTooLong) { try town.lookup("\(alive)/\(most)%25") }
            #expect(throws: Errno.fileNameTooLong) { try town.mkdir("\(alive)/\(most)%25") }
        }
    }

    /// A walk finds each runtime where its id says, and removing what it finds forgets them all.
    @Test(arguments: [1, 2, 3] as [UInt64]) func walkFindsAndForgetsAllIds(_ seed: UInt64) throws {
        var random = SplitMix64(state: seed)
        let pieces = ["/", "/", ".", "%", "@", "a", " ", "é", "e\u{301}", "\u{301}", ".json", "K", "\u{212A}"]
        let ids = Set(
            (0..<400).compactMap { _ -> RuntimeID? in
                let count = Int.random(in: 1...6, using: &random)
                return try? RuntimeID((0..<count).compactMap { _ in pieces.randomElement(using: &random) }.joined())
            })
        try withTown { town in
            for id in ids.shuffled(using: &random) {
                try town.write("", to: "\(alive)/\(id.names.map { $0 + "@/" }.joined())@")
                #expect(town.town.liveness.isAlive(id))
            }
            #expect(Set(town.town.liveness.runtimes(in: "")) == ids)
            let reports = try PulsePaths.all(of: town, "runtimes").map { Array($0.utf8) }
            #expect(reports.count == ids.count && Set(reports) == Set(ids.map { Array($0.reportPath.utf8) }))
            let paths = try PulsePaths.all(of: town, "alive")
            let own = ids.map { Array($0.names.joined(separator: "/").utf8) }
            let found = paths.map { path in Array(path.hasBytes(atEnd: "/@") ? path.utf8.dropLast(2) : path.utf8[...]) }
            #expect(found.count == ids.count && Set(found) == Set(own))
            for path in paths {
                // A directory that holds nothing else is gone with the last one.
                let place = String(path.unicodeScalars.dropLast(2))
                let isOwn = try path.hasBytes(atEnd: "/@") && !town.stat("\(alive)/\(place)").isDirectory
                let name = isOwn ? place : path
                try town.unlink("\(alive)/\(name)")
            }
            #expect(town.town.liveness.runtimes(in: "") == [])
            #expect(try town.names(alive) == [])
        }
    }

    @Test func idIsNoLongerThanAPath() throws {
        try withTown { town in
            let name = String(repeating: "n", count: 255)
            #expect(throws: Errno.fileNameTooLong) { try town.write("", to: "\(alive)/\(name)n") }
            #expect(throws: Errno.fileNameTooLong) { try town.lookup("\(alive)/\(name)n") }
            try town.write("", to: "\(alive)/\(name)")
            var path = alive
            for _ in 0..<15 {
                path += "/\(name)@"
                _ = try town.lookup(path)
            }
            // 15 × 256 is 3,840.
            try town.write("", to: "\(path)/\(String(repeating: "m", count: 255))@/@")
            let last = "\(path)/\(String(repeating: "m", count: 255))@"
            #expect(throws: Errno.fileNameTooLong) { try town.write("", to: "\(last)/x@/@") }
        }
    }

    @Test func nothingElseIsMadeThere() throws {
        try withTown { town in
            try town.write("", to: "\(alive)/mayor")
            try town.write("x", to: "plain")
            let inode = try town.lookup(alive).inode
            #expect(throws: Errno.notPermitted) { try town.link("plain", to: "\(alive)/x") }
            #expect(throws: Errno.notPermitted) { try town.link("\(alive)/mayor", to: "x") }
            #expect(throws: Errno.notPermitted) { try town.rename("\(alive)/mayor", to: "\(alive)/x") }
            #expect(throws: Errno.notPermitted) { try town.rename("plain", to: "\(alive)/x") }
            try Array("x".utf8).asFileName { (name) throws(Errno) in
                #expect(throws: Errno.notPermitted) {
                    try town.symlink(to: name.pointer, named: name, in: inode, for: .me)
                }
                #expect(throws: Errno.notPermitted) {
                    try town.mknod(name, in: inode, mode: S_IFIFO | 0o644, device: 0, for: .me)
                }
                #expect(throws: Errno.notSupported) {
                    try town.create(name, in: inode, mode: 0o644, flags: O_RDWR | 0o20200000, for: .me)
                }
                _ = try town.mknod(name, in: inode, mode: S_IFREG | 0o644, device: 0, for: .me)
            }
            #expect(try town.names(alive) == ["mayor", "x"])
        }
    }
}

/// The files of a directory of `.pulse`, by their paths in it.
enum PulsePaths {
    static func all(of town: TestTown, _ directory: String) throws -> [String] {
        var paths: [String] = []
        var rest = [""]
        while let prefix = rest.popLast() {
            for name in try town.names(".pulse/\(directory)/\(prefix)") {
                let path = prefix + name
                if try town.stat(".pulse/\(directory)/\(path)").isDirectory {
                    rest.append(path + "/")
                } else {
                    paths.append(path)
                }
            }
        }
        return paths
    }
}
