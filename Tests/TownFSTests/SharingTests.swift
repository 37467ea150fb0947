import Glibc
import Liveness
import SystemPackage
import Testing

@testable import TownFS

/// Records that a mirror receives from other hosts with the same town name.
@Suite(.timeLimit(.minutes(5))) struct SharingTests {
    private let keepalive = ".runtime/keepalive.json"
    private let elsewhere = Origin(host: "elsewhere", path: "/gt")

    private func withSharedTown(_ files: [String: String] = [:], _ body: (TestTown) throws -> Void) throws {
        try withTown(files, mirror: SilentMirror(), body)
    }

    private func document(_ command: String, at time: WallTime) -> String {
        #"{"last_command":"\#(command)","timestamp":"\#(time.rfc3339)"}"#
    }

    private func touch(_ text: String, _ town: TestTown, _ path: String? = nil, age: Duration = .zero) -> Touch {
        let time = town.now + (.zero - age)
        return Touch(
            signal: Array((path ?? keepalive).utf8), receivedAt: time, at: town.town.now.instant - age,
            document: Document(Array(text.utf8)), source: .written, stamp: HLCTimestamp(time, by: elsewhere))
    }

    private func forget(_ subject: RecordSubject, at time: WallTime, _ town: TestTown) {
        town.receiveForget(subject, stamp: HLCTimestamp(time, by: elsewhere), at: time)
    }

    @Test func documentOfAnotherHostIsRead() throws {
        try withSharedTown { (town) throws in
            try town.write(document("here", at: town.now), to: keepalive)
            town.advance(by: .seconds(10))
            let text = document("elsewhere", at: town.now)
            town.receive(touch(text, town))
            #expect(try town.read(keepalive) == text)
            #expect(try town.stat(keepalive).st_size == off_t(text.utf8.count))
            let modified = WallTime(try town.stat(keepalive).st_mtim)
            #expect(modified == town.now)
        }
    }

    @Test func olderDocumentOfAnotherHostIsNot() throws {
        try withSharedTown { (town) throws in
            town.advance(by: .seconds(10))
            let text = document("here", at: town.now)
            try town.write(text, to: keepalive)
            town.receive(touch(document("elsewhere", at: town.now), town, age: .seconds(5)))
            #expect(try town.read(keepalive) == text)
        }
    }

    @Test func backingFileFromBeforeTheMountYieldsToLaterRecordsOnly() throws {
        try withSharedTown([keepalive: "{\"backing\":1}"]) { (town) throws in
            let written = WallTime(try town.statBacking(keepalive).st_mtim)
            var old = touch("{\"old\":1}", town)
            old.receivedAt = written + .seconds(-1)
            town.receive(old)
            #expect(try town.read(keepalive) == "{\"backing\":1}")
            let text = document("new", at: written + .seconds(1))
            var new = touch(text, town)
            new.receivedAt = written + .seconds(1)
            new.stamp.time = new.receivedAt
            town.receive(new)
            #expect(try town.read(keepalive) == text)
        }
    }

    @Test(arguments: ["{", "[]", "\u{0}", "two\nlines\n", "17"])
    func invalidBackingFileIsNotLoaded(_ text: String) throws {
        try withSharedTown { (town) throws in
            let mine = document("here", at: town.now)
            try town.write(mine, to: keepalive)
            town.advance(by: .seconds(1))
            town.receive(touch(text, town))
            #expect(try town.read(keepalive) == mine)
        }
    }

    @Test func documentOfAHostWithAClockAheadKeepsItsTime() throws {
        try withSharedTown { (town) throws in
            town.receive(touch(document("ahead", at: town.now + .seconds(600)), town, age: .seconds(3)))
            #expect(try town.read(keepalive) == document("ahead", at: town.now + .seconds(-3)))
        }
    }

    @Test func openDescriptorOfARemovedFileStillReads() throws {
        try withSharedTown { (town) throws in
            let text = document("here", at: town.now)
            try town.write(text, to: keepalive)
            let handle = try town.open(keepalive)
            town.advance(by: .seconds(1))
            town.receive(touch(document("a longer one, elsewhere", at: town.now), town))
            #expect(try town.read(handle) == text)
            town.release(handle)
        }
    }

    @Test func fileUnderCreationIsSeenByItsCreatorOnly() throws {
        try withSharedTown { (town) throws in
            let handle = try town.open(keepalive, O_WRONLY | O_CREAT)
            town.receive(touch(document("elsewhere", at: town.now), town))
            let text = document("here", at: town.now)
            try town.write(text, to: handle)
            try town.close(handle)
            #expect(try town.read(keepalive) == text)
        }
    }

    /// Otherwise hosts that received both records would keep another one than this town.
    @Test func localWriteIsStampedLaterThanReceivedRecords() throws {
        try withSharedTown { (town) throws in
            let handle = try town.open(keepalive, O_WRONLY | O_CREAT)
            // With clocks that differ by a millisecond.
            let other = touch(document("elsewhere", at: town.now), town, age: .milliseconds(-1))
            town.receive(other)
            try town.write(document("here", at: town.now), to: handle)
            try town.close(handle)
            let record = try #require(town.town.liveness.record(ofSignal: Array(keepalive.utf8)))
            #expect(record.touch.stamp > other.stamp)
        }
    }

    @Test func unlinkElsewhereRemovesTheFileUnlessItWasTouchedLater() throws {
        try withSharedTown { (town) throws in
            try town.write(document("here", at: town.now), to: keepalive)
            town.town.writeback.writeNow(town.signals.knownFiles)
            let path = RecordSubject.signal(SignalPath(bytes: Array(keepalive.utf8)))
            forget(path, at: town.now + .seconds(-1), town)
            #expect(try town.exists(keepalive))
            town.advance(by: .seconds(1))
            forget(path, at: town.now, town)
            #expect(try !town.exists(keepalive))
            #expect(throws: Errno.noSuchFileOrDirectory) { try town.statBacking(keepalive) }
            // A record sent before the unlink does not restore the file.
            town.receive(touch(document("old", at: town.now), town, age: .milliseconds(500)))
            #expect(try !town.exists(keepalive))
            town.advance(by: .seconds(1))
            town.receive(touch(document("new", at: town.now), town))
            #expect(try town.exists(keepalive))
        }
    }

    @Test(arguments: ["elsewhere/.runtime/keepalive.json", "daemon/other.json", "activity.json", "deacon"])
    func recordOfANonSignalFileIsIgnored(_ path: String) throws {
        try withSharedTown(["daemon/other.json": "mine"]) { (town) throws in
            town.receive(touch("{}", town, path))
            forget(.signal(SignalPath(bytes: Array(path.utf8))), at: town.now + .seconds(60), town)
            #expect(try town.read("daemon/other.json") == "mine")
            #expect(town.town.liveness.record(ofSignal: Array(path.utf8)) == nil)
        }
    }

    @Test func directoryThatIsALinkIsNotFollowed() throws {
        try withSharedTown(["outside/activity.json": "{}"]) { (town) throws in
            #expect(rmdir("\(town.tree)/daemon") == 0)
            #expect(Glibc.symlink("outside", "\(town.tree)/daemon") == 0)
            forget(
                .signal(SignalPath(bytes: Array("daemon/activity.json".utf8))), at: town.now + .seconds(1_000_000_000),
                town)
            #expect(try town.read("outside/activity.json") == "{}")
        }
    }

    @Test func linkInTheFilesPlaceIsNotRemovedOrListedTwice() throws {
        try withSharedTown(["target": "{}"]) { (town) throws in
            #expect(Glibc.symlink("../target", "\(town.tree)/daemon/activity.json") == 0)
            town.receive(touch("{\"elsewhere\":1}", town, "daemon/activity.json"))
            town.advance(by: .seconds(1))
            forget(
                .signal(SignalPath(bytes: Array("daemon/activity.json".utf8))), at: town.now + .seconds(1_000_000_000),
                town)
            var status = Glibc.stat()
            #expect(lstat("\(town.tree)/daemon/activity.json", &status) == 0)
        }
    }

    @Test func invalidDocumentOfAnotherHostIsRejected() throws {
        try withSharedTown { (town) throws in
            let text = document("here", at: town.now)
            try town.write(text, to: keepalive)
            town.advance(by: .seconds(1))
            town.receive(touch("{\"broken\": ", town))
            #expect(try town.read(keepalive) == text)
        }
    }

    @Test func runtimeOfAnotherHostIsSeenWithItsHostAndAge() throws {
        try withSharedTown { (town) throws in
            let id = try RuntimeID("gastown/polecats/furiosa")
            var touch = touch(document("gt mail", at: town.now), town, age: .seconds(30))
            (touch.signal, touch.runtime) = (nil, id)
            town.receive(touch)
            let report = try town.read(".pulse/runtimes/\(id).json")
            #expect(report.contains(#""host" : "elsewhere""#))
            #expect(report.contains(#""age_seconds" : 30"#))
            #expect(report.contains(#""ttl_left_seconds" : 60"#))
            #expect(report.contains(#""last_command" : "gt mail""#))
            #expect(report.contains(#""state" : "alive""#))
            forget(.runtime(id), at: town.now, town)
            #expect(try !town.exists(".pulse/runtimes/\(id).json"))
        }
    }
}

/// A mirror that ignores everything.
private struct SilentMirror: LivenessMirror {
    func stamp(_ now: WallTime) -> HLCTimestamp { HLCTimestamp(now, by: Origin(host: "here", path: "/gt")) }
    func enqueue(_ subject: RecordSubject, isUrgent: Bool) {}

    var status: MirrorStatus {
        let link = MirrorStatus.Link(.up, since: .goZero)
        return MirrorStatus(server: "", townName: "gt", heartbeats: link, records: link, subscription: link)
    }
}
