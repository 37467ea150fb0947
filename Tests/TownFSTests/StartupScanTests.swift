import Liveness
import SystemPackage
import Testing

@testable import TownFS

/// Runtimes known from backing files written before the mount.
@Suite(.timeLimit(.minutes(5))) struct StartupScanTests {
    private let heartbeat = ".runtime/heartbeats/gt-nux.json"

    private func record(_ id: String, in town: TestTown) throws -> Record? {
        town.town.liveness.record(of: try RuntimeID(id))
    }

    @Test func agentOfBeforeACrashIsExpiredWithItsTrueAge() throws {
        let rigs = #"{"rigs":{"gastown":{"beads":{"prefix":"gt"}}}}"#
        let old = #"{"timestamp":"2020-01-01T00:00:00Z","state":"working"}"#
        try withTown([heartbeat: old, "mayor/rigs.json": rigs]) { town in
            let record = try #require(try record("gastown/polecats/nux", in: town))
            #expect(record.state(at: town.town.now.instant) == .expired)
            #expect(record.touch.receivedAt.rfc3339 == "2020-01-01T00:00:00Z")
            #expect(town.town.now.instant - record.touch.at == town.now - record.touch.receivedAt)
            #expect(record.touch.evidence == .path)
            #expect(record.ownDocument?.string("state") == "working")
            // The file is unchanged.
            #expect(try town.read(heartbeat) == old)
            #expect(town.town.liveness.counts().signals.expired == 0)
        }
    }

    @Test func agentThatBeatJustBeforeTheMountIsAliveForTheRest() throws {
        try withTown { town in
            try town.writeBacking(document("gt", at: town.now + .seconds(-60)), to: heartbeat)
            var startupScan = StartupScan(of: town.town)
            startupScan.run(in: town.root, town.signals)
            let record = try #require(try record("gt-nux", in: town))
            #expect(record.state(at: town.town.now.instant) == .alive)
            town.advance(by: .seconds(31))
            #expect(record.state(at: town.town.now.instant) == .expired)
        }
    }

    @Test func futureTimeIsNotKept() throws {
        try withTown { town in
            try town.writeBacking(document("gt", at: town.now + .seconds(86_400)), to: heartbeat)
            try town.setBackingTime(heartbeat, to: town.now + .seconds(-500))
            try town.writeBacking("", to: "deacon/.deacon-heartbeat")
            try town.setBackingTime("deacon/.deacon-heartbeat", to: town.now + .seconds(500))
            var startupScan = StartupScan(of: town.town)
            startupScan.run(in: town.root, town.signals)
            let (nux, deacon) = (try record("gt-nux", in: town), try record("deacon", in: town))
            #expect(nux?.touch.receivedAt == town.now + .seconds(-500))
            #expect(deacon == nil, "when that was is not to be known")
        }
    }

    @Test func documentNamesTheWriterOfASharedFile() throws {
        let text = #"{"last_command":"bd","timestamp":"2020-01-01T00:00:00Z","actor":"gastown/crew/max"}"#
        try withTown(["daemon/activity.json": text, ".runtime/keepalive.json": #"{"last_command":"gt"}"#]) { town in
            let record = try record("gastown/crew/max", in: town)
            #expect(record?.touch.evidence == .document)
            #expect(town.town.liveness.counts().runtimes.expired == 1)
        }
    }

    @Test func laterTouchWinsOverTheScan() throws {
        try withTown([heartbeat: #"{"timestamp":"2020-01-01T00:00:00Z"}"#]) { town in
            try town.write("{}", to: heartbeat)
            let record = try record("gt-nux", in: town)
            #expect(record?.touch.receivedAt == town.now)
        }
    }

    @Test func starsAreNotFollowed() throws {
        let files = ["a/.runtime/heartbeats/x.json": "{}", heartbeat: "{}"]
        try withTown(files, patterns: ["**/.runtime/heartbeats/*.json"]) { town in
            #expect(town.town.liveness.counts().runtimes.expired + town.town.liveness.counts().runtimes.alive == 1)
        }
    }

    @Test(arguments: ["", "no JSON", "{", String(repeating: " ", count: 70_000)])
    func invalidBackingFileGivesOnlyItsTime(_ text: String) throws {
        try withTown([heartbeat: text]) { town in
            let record = try record("gt-nux", in: town)
            #expect((record == nil) == (text.utf8.count > Document.maximumSize))
            #expect(record.map { $0.touch.receivedAt <= town.now } ?? true)
        }
    }
}
