import Testing

@testable import PulsefsBench

@Suite struct StatisticsTests {
    @Test func percentilesAreMeasuredValues() throws {
        let percentiles = try #require(Percentiles([5, 1, 4, 2, 3]))
        #expect(percentiles.median == 3 && percentiles[0.99] == 5 && percentiles[0] == 1)
        #expect(percentiles.spread == 4.0 / 3)
        #expect(Percentiles([]) == nil)
    }

    @Test func percentileIsTakenWithinRoundsThenOverThem() throws {
        let statistics = try RoundStatistics([[1, 9, 2], [4], [3, 3]])
        #expect(statistics.perRound(0.5) == [2, 4, 3])
        #expect(statistics[0.5] == 3 && statistics.spread == 2.0 / 3)
        #expect(throws: BenchFailure.self) { try RoundStatistics([[]]) }
    }

    @Test func ratioIsTheMedianOfTheRoundsRatios() {
        #expect(medianRatio(of: [2, 30, 4], to: [1, 10, 2]) == 2)
        #expect(medianRatio(of: [2], to: [1, 10]) == nil)
    }

    @Test func eachRoundBeginsWithAnotherTarget() {
        var order: [Int] = []
        rotate(rounds: 3, count: 2) { order.append($0) }
        #expect(order == [0, 1, 1, 0, 0, 1])
    }

    @Test func failedStepHasNoFigureAndIsNamed() {
        var record = TreeBenchmark.Record(of: TreeStep.all[0], targets: 3)
        record.add(.done(.init(seconds: [1, 9, 2], check: "a")), of: 0)
        record.add(.done(.init(seconds: [4], check: "b")), of: 1)
        record.add(.failed("ended with 1"), of: 2)
        #expect(record.median(0) == 2 && record.median(1) == nil && record.median(2) == nil)
        let lines = record.failureLines([.plain, .plain, .plain])
        #expect(lines.count == 2 && lines[1] == "git clone on plain: ended with 1")
    }

    @Test func mountTableIsParsed() throws {
        let mounts = Mount.all(
            mountinfo: """
                36 35 98:0 / / rw - ext4 /dev/root rw
                37 36 0:42 / /a\\040b rw,nosuid shared:1 - fuse.pulsefs pulsefs rw
                no mount
                """)
        #expect(mounts.map(\.mountpoint) == ["/", "/a b"])
        #expect(mounts.map(\.deviceMinor) == [0, 42] && mounts[1].type == "fuse.pulsefs")
    }

    @Test func requestsAreCountedByOpcode() throws {
        let trace = """
            # tracer: nop
            # entries-in-buffer/entries-written: 3/3   #P:2
             cat-1 [000] ..... 1.0: fuse_request_send: connection 42 req 2 opcode 14 (FUSE_OPEN) len 48
             cat-1 [000] ..... 1.1: fuse_request_send: connection 42 req 4 opcode 15 (FUSE_READ) len 80
             cat-1 [001] ..... 1.2: fuse_request_send: connection 42 req 6 opcode 15 (FUSE_READ) len 80
            """
        #expect(try RequestCounter.requests(in: trace) == ["OPEN": 1, "READ": 2])
        let overrun = trace.replacing("3/3", with: "3/7")
        #expect(throws: BenchFailure.self) { try RequestCounter.requests(in: overrun) }
    }
}
