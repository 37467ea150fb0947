import Glibc
import Liveness
import TestSupport
import Testing

@testable import TownFS

/// The wall clock is set while the town is mounted.
///
/// Deadlines are on monotonic time; document times are wall times.
@Suite(.timeLimit(.minutes(5))) struct ClockStepTests {
    private let keepalive = ".runtime/keepalive.json"

    @Test(arguments: [Duration.seconds(3600), .seconds(-3600)]) func stepChangesNoDeadline(step: Duration) throws {
        try withTown { town in
            try town.write("{}", to: keepalive)
            town.stepWall(by: step)
            #expect(town.town.liveness.counts().signals.alive == 1)
            town.advance(by: .seconds(89))
            #expect(town.town.liveness.counts().signals.alive == 1)
            town.advance(by: .seconds(1))
            #expect(town.town.liveness.counts().signals.expired == 1)
            town.stepWall(by: .zero - step)
            #expect(town.town.liveness.counts().signals.expired == 1)
        }
    }

    @Test(arguments: [Duration.seconds(10), .seconds(-10), .seconds(3600), .seconds(-3600)])
    func newerDocumentWinsAfterAStep(step: Duration) throws {
        try withTown { town in
            try town.write(#"{"n":1}"#, to: keepalive)
            town.writeback()
            #expect(try town.readBacking(keepalive)?.contains(#""n":1"#) == true)
            town.stepWall(by: step)
            town.advance(by: .seconds(1))
            try town.write(#"{"n":2}"#, to: keepalive)
            let text = try town.read(keepalive)
            #expect(text.contains(#""n":2"#) && text.contains(town.now.rfc3339))
            town.writeback()
            #expect(try town.readBacking(keepalive) == text)
            #expect(WallTime(try town.stat(keepalive).st_mtim) == town.now)
            #expect(WallTime(try town.statBacking(keepalive).st_mtim) == town.now)
        }
    }

    /// After a step back, a document with an earlier time is in the future, and gets the time of receipt.
    @Test func documentFromTheFutureGetsTheTimeOfReceipt() throws {
        try withTown { town in
            let before = town.now
            town.stepWall(by: .seconds(-3600))
            try town.write(document("gt", at: before), to: keepalive)
            #expect(try town.read(keepalive) == document("gt", at: town.now))
        }
    }
}
