import CLinux
import Glibc
import SystemPackage
import TestSupport
import Testing

extension ParallelEndToEnd {
    /// Signal files that are removed, renamed and linked, and files from before the mount.
    @Suite(.inEachScope) struct NamesTests {
        // MARK: Removing

        @Test func removedSignalIsAbsentUntilTheNextTouch() throws {
            try withMountedTown { town in
                let path = "\(town.path)/.runtime/heartbeats/gt-crew-max.json"
                for round in 1...3 {
                    let text = KeepaliveDocument.text("round \(round)")
                    try Client.write(text, to: path)
                    #expect(try Client.read(path) == text)
                    if round == 2 { try town.synchronize() }
                    try Client.unlink(path)
                    #expect(throws: Errno.noSuchFileOrDirectory) { try Client.read(path) }
                    #expect(throws: Errno.noSuchFileOrDirectory) { try FileStatus(path) }
                    #expect(throws: Errno.noSuchFileOrDirectory) { try Client.unlink(path) }
                    #expect(throws: Errno.noSuchFileOrDirectory) { try Client.touch(path) }
                    #expect(!Client.exists("\(town.backing)/.runtime/heartbeats/gt-crew-max.json"))
                }
                try town.remount()
                #expect(!Client.exists(path))
            }
        }

        @Test func writerOfARemovedSignalWritesToNothing() throws {
            try withMountedTown { town in
                try Client.write(KeepaliveDocument.text("gt"), to: town.keepalive)
                let writer = try Client.openForWriting(town.keepalive)
                let reader = try Client.open(town.keepalive, O_RDONLY)
                try Client.unlink(town.keepalive)
                try Client.write(KeepaliveDocument.text("late"), to: writer)
                try Client.close(writer)
                #expect(!Client.exists(town.keepalive))
                #expect(try KeepaliveDocument(Client.read(reader)).lastCommand == "gt")
                try Client.close(reader)
            }
        }

        // MARK: Renaming and linking

        @Test(.townScopeOnly("across the boundary of a mounted signal directory: ScopeTests"))
        func signalFileRenamedAwayIsAPlainFile() throws {
            try withMountedTown { town in
                let text = KeepaliveDocument.text("gt away")
                try Client.write(text, to: town.keepalive, mode: 0o640)
                let before = try FileStatus(town.keepalive)
                let away = "\(town.path)/kept.json"
                try Client.rename(town.keepalive, to: away)
                #expect(throws: Errno.noSuchFileOrDirectory) { try Client.read(town.keepalive) }
                #expect(try Client.read(away) == text)
                #expect(try Client.read("\(town.backing)/kept.json") == text)
                let after = try FileStatus(away)
                #expect(after.permissions == 0o640)
                #expect(after.modified == before.modified)
                // A plain file accepts anything.
                try Client.write("no document", to: away)
                #expect(try Client.read(away) == "no document")
                // And back.
                try Client.write(text, to: away)
                try Client.rename(away, to: town.keepalive)
                #expect(try Client.read(town.keepalive) == text)
                #expect(try FileStatus(town.keepalive).st_ino == before.st_ino)
            }
        }

        @Test(.townScopeOnly("across the boundary of a mounted signal directory: ScopeTests"))
        func signalRenamedOntoAnotherIsATouchOfThat() throws {
            try withMountedTown { town in
                let text = KeepaliveDocument.text("gt moved")
                try Client.write(text, to: town.keepalive)
                try Client.write(KeepaliveDocument.text("gt former"), to: town.activity)
                try Client.rename(town.keepalive, to: town.activity)
                #expect(try Client.read(town.activity) == text)
                #expect(!Client.exists(town.keepalive))
            }
        }

        @Test(.townScopeOnly("across the boundary of a mounted signal directory: ScopeTests"))
        func signalCannotBeLinked() throws {
            try withMountedTown { town in
                try Client.write(KeepaliveDocument.text("gt"), to: town.keepalive)
                try Client.write("x", to: "\(town.path)/file")
                #expect(throws: Errno.notPermitted) { try Client.link(town.keepalive, to: "\(town.path)/other") }
                #expect(throws: Errno.fileExists) { try Client.link("\(town.path)/file", to: town.keepalive) }
                #expect(throws: Errno.notPermitted) { try Client.link("\(town.path)/file", to: town.activity) }
                #expect(!Client.exists("\(town.path)/other"))
            }
        }

        @Test(.townScopeOnly("across the boundary of a mounted signal directory: ScopeTests"))
        func renameWithoutReplacingRespectsASignal() throws {
            try withMountedTown { town in
                let text = KeepaliveDocument.text("gt")
                try Client.write(text, to: "\(town.path)/file")
                try Client.write(KeepaliveDocument.text("former"), to: town.keepalive)
                let noReplace = UInt32(RENAME_NOREPLACE)
                #expect(throws: Errno.fileExists) {
                    try Client.exchange("\(town.path)/file", town.keepalive, flags: noReplace)
                }
                #expect(throws: Errno.invalidArgument) {
                    try Client.exchange("\(town.path)/file", town.keepalive, flags: UInt32(RENAME_EXCHANGE))
                }
                #expect(try KeepaliveDocument(Client.read(town.keepalive)).lastCommand == "former")
                try Client.exchange("\(town.path)/file", town.activity, flags: noReplace)
                #expect(try Client.read(town.activity) == text)
                #expect(!Client.exists("\(town.path)/file"))
            }
        }

        @Test func exclusiveCreationOfASignalSucceedsOnce() throws {
            try withMountedTown { town in
                let flags = O_WRONLY | O_CREAT | O_EXCL
                let file = try Client.open(town.keepalive, flags)
                try Client.write(KeepaliveDocument.text("gt"), to: file)
                try Client.close(file)
                #expect(throws: Errno.fileExists) { try Client.open(town.keepalive, flags) }
                try Client.unlink(town.keepalive)
                try Client.close(Client.open(town.keepalive, flags))
            }
        }

        // MARK: Directories

        @Test(.townScopeOnly("a pattern that needs the whole town"))
        func renamedDirectoryKeepsItsSignalFiles() throws {
            try withMountedTown("--signal", "**/.runtime/keepalive.json") { town in
                let first = KeepaliveDocument.text("gt first")
                try Client.makeDirectory("\(town.path)/rig")
                try Client.makeDirectory("\(town.path)/rig/.runtime")
                try Client.write(first, to: "\(town.path)/rig/.runtime/keepalive.json")
                try Client.rename("\(town.path)/rig", to: "\(town.path)/other")
                let moved = "\(town.path)/other/.runtime/keepalive.json"
                #expect(try Client.read(moved) == first)
                #expect(!Client.exists("\(town.path)/rig/.runtime/keepalive.json"))
                // It is a signal file there, too: an invalid document is rejected.
                #expect(throws: Errno.invalidArgument) { try Client.write("{", to: moved) }
                // Under a name that is no signal name, it is a plain file.
                try Client.rename("\(town.path)/other/.runtime", to: "\(town.path)/other/plain")
                let plain = "\(town.path)/other/plain/keepalive.json"
                #expect(try Client.read(plain) == first)
                try Client.write("{", to: plain)
                #expect(try Client.read(plain) == "{")
                try Client.write(first, to: plain)
                // And back again.
                try Client.rename("\(town.path)/other/plain", to: "\(town.path)/other/.runtime")
                #expect(try Client.read(moved) == first)
                #expect(throws: Errno.invalidArgument) { try Client.write("{", to: moved) }
            }
        }

        /// The kernel's cached listing is invalid for a directory of signal files, which expire without a request.
        @Test(.townScopeOnly("a pattern that needs the whole town"))
        func listingIsOfNowWhereADirectoryHasBecomeOneOfSignals() throws {
            let options = ["--ttl", "2s", "--on-expiry", "absent", "--signal", "**/.runtime/keepalive.json"]
            try withMountedTown(options: options) { town in
                for path in ["rig", "rig/.runtime", "rig/plain"] { try Client.makeDirectory("\(town.path)/\(path)") }
                for name in ["other", "keepalive.json"] {
                    try Client.write(KeepaliveDocument.text(name), to: "\(town.path)/rig/plain/\(name)")
                }
                // The second listing comes from the kernel's cache.
                for _ in 0..<2 {
                    #expect(try Client.names(in: "\(town.path)/rig/plain").sorted() == ["keepalive.json", "other"])
                }
                try Client.removeDirectory("\(town.path)/rig/.runtime")
                try Client.rename("\(town.path)/rig/plain", to: "\(town.path)/rig/.runtime")
                try Client.rename("\(town.path)/rig", to: "\(town.path)/moved")
                let place = "\(town.path)/moved/.runtime"
                #expect(try eventually { try Client.names(in: place) == ["other"] })
                // As a plain directory again, it is listed unchanged.
                try Client.rename(place, to: "\(town.path)/moved/plain")
                for _ in 0..<2 {
                    #expect(try Client.names(in: "\(town.path)/moved/plain").sorted() == ["keepalive.json", "other"])
                }
            }
        }

        @Test(.townScopeOnly("a mountpoint cannot be moved: ScopeTests"))
        func directoryWithASignalFileIsNotEmpty() throws {
            try withMountedTown { town in
                let directory = "\(town.path)/daemon"
                try Client.write(KeepaliveDocument.text("gt"), to: town.activity)
                #expect(throws: Errno.directoryNotEmpty) { try Client.removeDirectory(directory) }
                #expect(throws: Errno.directoryNotEmpty) { try Client.rename("\(town.path)/mayor", to: directory) }
                #expect(try KeepaliveDocument(Client.read(town.activity)).lastCommand == "gt")
                try Client.unlink(town.activity)
                try Client.removeDirectory(directory)
                #expect(throws: Errno.noSuchFileOrDirectory) { try Client.write("gt", to: town.activity) }
                try Client.makeDirectory(directory)
                #expect(try Client.names(in: directory) == [])
                try Client.write("gt again", to: town.activity)
                #expect(try KeepaliveDocument(Client.read(town.activity)).lastCommand == "gt again")
            }
        }

        @Test(.townScopeOnly("a mountpoint cannot be moved: ScopeTests"))
        func treeWithSignalFilesIsRemovedCompletely() throws {
            try withMountedTown { town in
                try Client.write(KeepaliveDocument.text("gt"), to: town.keepalive)
                for name in ["a", "b", "c"] {
                    try Client.write(KeepaliveDocument.text(name), to: "\(town.path)/.runtime/heartbeats/\(name).json")
                }
                try town.synchronize()
                try Client.write(KeepaliveDocument.text("d"), to: "\(town.path)/.runtime/heartbeats/d.json")
                try town.shell("rm -rf .runtime")
                #expect(!Client.exists("\(town.path)/.runtime"))
                #expect(!Client.exists("\(town.backing)/.runtime"))
                try town.shell("mkdir -p .runtime/heartbeats && ls -A .runtime/heartbeats | wc -l | grep -qx 0")
                #expect(!Client.exists(town.keepalive))
                try town.remount()
                #expect(try Client.names(in: "\(town.path)/.runtime") == ["heartbeats"])
            }
        }

        // MARK: From before the mount

        @Test func realFileFromBeforeTheMountIsServedUnchanged() throws {
            let text = KeepaliveDocument.text("gt old", age: 7200) + "\n"
            try withMountedTown(prepare: { path in
                try Client.write(text, to: "\(path)/.runtime/keepalive.json", mode: 0o640)
                try Client.setModified("\(path)/.runtime/keepalive.json", seconds: 1_600_000_000)
            }) { town in
                #expect(try Client.read(town.keepalive) == text)
                let status = try FileStatus(town.keepalive)
                #expect(status.st_mtim.tv_sec == 1_600_000_000)
                #expect(status.st_size == text.utf8.count)
                #expect(status.permissions == 0o640)
                #expect(try Client.names(in: "\(town.path)/.runtime").filter { $0 == "keepalive.json" }.count == 1)
                // Reading is no touch and writes nothing.
                try town.remount()
                #expect(try FileStatus(town.keepalive).st_mtim.tv_sec == 1_600_000_000)
                try Client.touch(town.keepalive)
                #expect(try KeepaliveDocument(Client.read(town.keepalive)).lastCommand == "gt old")
                #expect(try FileStatus(town.keepalive).st_ino == status.st_ino)
                #expect(try FileStatus(town.keepalive).permissions == 0o640)
            }
        }

        @Test(arguments: [#"{"last_command":"gt"#, String(repeating: "x", count: 100_000), "", "\u{0}\u{1}"])
        func invalidBackingFileIsServedUnchanged(text: String) throws {
            try withMountedTown(prepare: { path in
                try Client.write(text, to: "\(path)/daemon/activity.json")
            }) { town in
                #expect(try Client.read(town.activity) == text)
                #expect(try FileStatus(town.activity).st_size == text.utf8.count)
                // The next write is validated on its own.
                #expect(throws: Errno.invalidArgument) { try Client.write("{", to: town.activity) }
                #expect(try Client.read(town.activity) == text)
                let document = KeepaliveDocument.text("gt good")
                try Client.write(document, to: town.activity)
                #expect(try Client.read(town.activity) == document)
            }
        }

        @Test func invalidBackingFileCanBeTouched() throws {
            try withMountedTown(prepare: { path in
                try Client.write("{", to: "\(path)/daemon/activity.json")
            }) { town in
                let before = Client.now
                try Client.touch(town.activity)
                #expect(try KeepaliveDocument(Client.read(town.activity)).seconds >= before)
            }
        }

        @Test func symbolicLinkInTheNameOfASignalStaysOne() throws {
            try withMountedTown(prepare: { path in
                try Client.write("target", to: "\(path)/target")
                symlink("../target", "\(path)/daemon/activity.json")
            }) { town in
                #expect(try FileStatus(town.activity).st_mode & S_IFMT == S_IFLNK)
                #expect(try Client.read(town.activity) == "target")
                try Client.write("{ anything", to: town.activity)
                #expect(try Client.read("\(town.backing)/target") == "{ anything")
                #expect(try town.status().documents.touches == 0)
            }
        }

        @Test func directoryInTheNameOfASignalStaysOne() throws {
            try withMountedTown(prepare: { path in
                try Client.makeDirectory("\(path)/daemon/activity.json")
            }) { town in
                try Client.write("x", to: "\(town.activity)/file")
                #expect(try Client.names(in: town.activity) == ["file"])
                #expect(throws: Errno.isDirectory) { try Client.write("gt", to: town.activity) }
                try Client.unlink("\(town.activity)/file")
                try Client.removeDirectory(town.activity)
                try Client.write("gt", to: town.activity)
                #expect(try KeepaliveDocument(Client.read(town.activity)).lastCommand == "gt")
            }
        }

        @Test func temporaryFileOfACrashedWritebackIsHiddenAndRemoved() throws {
            try withMountedTown(prepare: { path in
                try Client.write("{", to: "\(path)/daemon/.pulsefs-activity.json")
            }) { town in
                #expect(try Client.names(in: "\(town.path)/daemon") == [])
                try Client.write("gt", to: town.activity)
                try town.unmount()
                #expect(try Client.names(in: "\(town.path)/daemon") == ["activity.json"])
            }
        }

        @Test(.townScopeOnly("a mountpoint cannot be moved: ScopeTests"))
        func signalFileIsCreatedInARecreatedDirectory() throws {
            try withMountedTown { town in
                try town.shell("rm -r daemon")
                #expect(throws: Errno.noSuchFileOrDirectory) { try Client.write("gt", to: town.activity) }
                try town.shell("mkdir -p daemon && echo gt > daemon/activity.json")
                #expect(try KeepaliveDocument(Client.read(town.activity)).lastCommand == "gt")
                try town.remount()
                #expect(try KeepaliveDocument(Client.read(town.activity)).lastCommand == "gt")
            }
        }

        @Test func backingFileCreatedAfterTheMountIsServed() throws {
            try withMountedTown { town in
                #expect(!Client.exists(town.activity))
                let text = KeepaliveDocument.text("gt backing")
                try Client.write(text, to: "\(town.backing)/daemon/activity.json")
                #expect(try Client.read(town.activity) == text)
                #expect(try Client.names(in: "\(town.path)/daemon") == ["activity.json"])
            }
        }

        // MARK: Options

        @Test(.townScopeOnly("a pattern that needs the whole town"))
        func globMakesMoreFilesSignals() throws {
            try withMountedTown("--signal", "**/.runtime/keepalive.json", "--signal", "beats/[a-c]?.txt") { town in
                try town.shell("mkdir -p a/b/c/.runtime .runtime beats")
                for path in ["a/b/c/.runtime/keepalive.json", "beats/a1.txt", ".runtime/keepalive.json"] {
                    #expect(throws: Errno.invalidArgument) { try Client.write("{", to: "\(town.path)/\(path)") }
                    try Client.write("gt x", to: "\(town.path)/\(path)")
                    #expect(try KeepaliveDocument(Client.read("\(town.path)/\(path)")).lastCommand == "gt x")
                }
                for path in ["a/b/c/keepalive.json", "beats/d1.txt", "beats/a12.txt", "keepalive.json"] {
                    try Client.write("{", to: "\(town.path)/\(path)")
                    #expect(try Client.read("\(town.path)/\(path)") == "{")
                }
                #expect(try town.status().signalFiles.alive == 3)
            }
        }

        @Test(.townScopeOnly("a pattern that needs the whole town"))
        func withoutDefaultSignalsTheyAreOrdinaryFiles() throws {
            try withMountedTown("--no-default-signals", "--signal", "mine.json") { town in
                for path in [town.keepalive, town.activity, "\(town.path)/deacon/heartbeat.json"] {
                    try Client.write("{", to: path)
                    #expect(try Client.read(path) == "{")
                }
                #expect(throws: Errno.invalidArgument) { try Client.write("{", to: "\(town.path)/mine.json") }
            }
        }

        @Test func neighboursOfSignalsAreOrdinaryFiles() throws {
            try withMountedTown { town in
                let names = [
                    ".runtime/session_id", "daemon/state.json", "daemon/activity.json.tmp", "deacon/paused.json",
                ]
                for path in names {
                    try Client.write("{", to: "\(town.path)/\(path)")
                    #expect(try Client.read("\(town.path)/\(path)") == "{")
                    #expect(try Client.read("\(town.backing)/\(path)") == "{")
                    try Client.link("\(town.path)/\(path)", to: "\(town.path)/\(path).link")
                }
            }
        }

        @Test func expiredSignalIsAbsentWhereThatIsAskedFor() throws {
            try withMountedTown("--ttl", "300ms", "--on-expiry", "absent") { town in
                try Client.write(KeepaliveDocument.text("gt"), to: town.keepalive)
                #expect(try KeepaliveDocument(Client.read(town.keepalive)).lastCommand == "gt")
                #expect(eventually { !Client.exists(town.keepalive) })
                #expect(throws: Errno.noSuchFileOrDirectory) { try Client.read(town.keepalive) }
                #expect(try Client.names(in: "\(town.path)/.runtime") == ["heartbeats"])
                #expect(try town.status().signalFiles.expired == 1)
                try Client.write(KeepaliveDocument.text("gt again"), to: town.keepalive)
                #expect(try KeepaliveDocument(Client.read(town.keepalive)).lastCommand == "gt again")
            }
        }

        @Test func expiredSignalKeepsItsDocument() throws {
            try withMountedTown("--ttl", "50ms") { town in
                let text = KeepaliveDocument.text("gt")
                try Client.write(text, to: town.keepalive)
                #expect(try eventually { try town.status().signalFiles.expired == 1 })
                #expect(try Client.read(town.keepalive) == text)
                #expect(try town.status().signalFiles.alive == 0)
            }
        }
    }
}
