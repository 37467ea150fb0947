import Fuse
import Glibc
import Liveness
import SystemPackage
import Testing

@testable import TownFS

/// Heartbeats that show a runtime's last activity.
@Suite(.timeLimit(.minutes(5))) struct HeartbeatRefreshTests {
    private let heartbeat = ".runtime/heartbeats/gt-nux.json"
    private let nux: RuntimeID

    init() throws {
        nux = try RuntimeID("gt-nux")
    }

    private func work(in town: TestTown) {
        let now = town.town.now
        town.town.liveness.touch(
            Touch(runtime: nux, receivedAt: now.wall, at: now.instant, document: nil, source: .activity))
    }

    @Test func heartbeatOfAnActiveRuntimeIsFreshAndKeepsItsFields() throws {
        try withTown(activity: .beat) { town in
            try town.write(#"{"state":"working","timestamp":"\#(town.now.rfc3339)","bead":"gt-1"}"#, to: heartbeat)
            town.advance(by: .seconds(200))
            work(in: town)
            let last = town.now
            town.advance(by: .seconds(5))
            #expect(try town.read(heartbeat) == #"{"state":"working","timestamp":"\#(last.rfc3339)","bead":"gt-1"}"#)
            let status = try town.stat(heartbeat)
            #expect(WallTime(status.st_mtim) == last)
            #expect(Int(status.st_size) == (try town.read(heartbeat)).utf8.count)
        }
    }

    @Test func readAndWritebackAgree() throws {
        try withTown(activity: .beat) { town in
            try town.write(document("gt", at: town.now), to: heartbeat)
            town.advance(by: .seconds(100))
            work(in: town)
            let text = try town.read(heartbeat)
            town.writeback()
            #expect(try town.readBacking(heartbeat) == text)
            #expect(WallTime(try town.statBacking(heartbeat).st_mtim) == town.now)
        }
    }

    @Test func ownTimestampStaysWhereItIsTheLater() throws {
        try withTown(activity: .beat) { town in
            let ahead = document("gt", at: town.now + .seconds(4))
            try town.write(ahead, to: heartbeat)
            town.advance(by: .seconds(2))
            work(in: town)
            #expect(try town.read(heartbeat) == ahead)
            let behind = document("gt", at: town.now + .seconds(-300))
            try town.write(behind, to: heartbeat)
            #expect(try town.read(heartbeat) == behind, "a document is read as it was written until there is news")
        }
    }

    @Test func fileFromBeforeTheMountBeatsToo() throws {
        try withTown([heartbeat: #"{"timestamp":"2020-01-01T00:00:00Z"}"#], activity: .beat) { town in
            let before = try town.read(heartbeat)
            #expect(before == #"{"timestamp":"2020-01-01T00:00:00Z"}"#)
            work(in: town)
            let after = try town.read(heartbeat)
            #expect(after == #"{"timestamp":"\#(town.now.rfc3339)"}"#)
        }
    }

    @Test func timeIsTheBeatWhereThatIsTheSignal() throws {
        try withTown(activity: .beat) { town in
            try town.write("", to: "deacon/.deacon-heartbeat")
            town.advance(by: .seconds(1300))
            let now = town.town.now
            town.town.liveness.touch(
                Touch(
                    runtime: try RuntimeID("deacon"), receivedAt: now.wall, at: now.instant, document: nil,
                    source: .activity))
            #expect(WallTime(try town.stat("deacon/.deacon-heartbeat").st_mtim) == now.wall)
            #expect(try town.read("deacon/.deacon-heartbeat") == "")
        }
    }

    @Test func exitedRuntimeIsNotRefreshed() throws {
        try withTown(activity: .beat) { town in
            let text = document("gt", at: town.now)
            try town.write(text, to: heartbeat)
            town.advance(by: .seconds(10))
            work(in: town)
            town.town.liveness.exit(
                nux, .init(of: .init(pid: 1, program: "x"), noticedAt: town.now, at: town.town.now.instant))
            #expect(try town.read(heartbeat) == text)
        }
    }

    @Test func filesOfManyAndFilesThatAreNotThereDoNotBeat() throws {
        try withTown(activity: .beat) { town in
            let text = document("gt", at: town.now)
            try town.write(text, to: ".runtime/keepalive.json")
            town.advance(by: .seconds(10))
            work(in: town)
            #expect(try town.read(".runtime/keepalive.json") == text)
            #expect(try !town.exists(heartbeat))
        }
    }

    @Test(arguments: [Town.Activity.off, .observe])
    func otherwiseTheDocumentIsAsItWasWritten(_ activity: Town.Activity) throws {
        try withTown(activity: activity) { town in
            let text = document("gt", at: town.now)
            try town.write(text, to: heartbeat)
            town.advance(by: .seconds(10))
            work(in: town)
            #expect(try town.read(heartbeat) == text)
        }
    }

    @Test func kernelCachesNothingOfARefreshedHeartbeat() throws {
        try withTown(activity: .beat) { town in
            try town.write("{}", to: heartbeat)
            try town.write("{}", to: ".runtime/keepalive.json")
            #expect(try town.lookup(heartbeat).statusTimeout == 0)
            #expect(try town.lookup(".runtime/keepalive.json").statusTimeout > 0)
        }
    }
}
