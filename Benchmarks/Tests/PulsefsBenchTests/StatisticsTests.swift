import Testing

@testable import PulseBench

@Suite struct StatisticsTests {
    @Test func percentilesAreValuesThatWereMeasured() throws {
        let percentiles = try #require(Percentiles([5, 1, 4, 2, 3]))
        #expect(percentiles.median == 3 && percentiles[0.99] == 5 && percentiles[0] == 1)
        #expect(percentiles.spread == 4.0 / 3)
        #expect(Percentiles([]) == nil)
    }

    @Test func roundCountsByItsMedian() {
        let result = TreeReport.Result(target: "pulsefs", rounds: [[1, 9, 2], [4], [3, 3]], failure: nil)
        #expect(result.rounds == [2, 4, 3])
        #expect(result.median == 3 && result.spread == 2.0 / 3)
    }

    @Test func failedStepHasNoFigure() {
        let result = TreeReport.Result(target: "pulsefs", rounds: [[1]], failure: "ended with 1")
        #expect(result.compared(withPlain: 1, bestPeer: 1, town: nil).median == nil)
        #expect(result.toPlain == nil)
    }

    @Test func variantIsComparedRoundByRound() {
        let town = TreeReport.Result(target: "pulsefs", rounds: [[1], [10], [2]], failure: nil)
        let variant = TreeReport.Result(target: "old", rounds: [[2], [30], [4]], failure: nil)
        let compared = variant.compared(withPlain: 0.5, bestPeer: 8, town: town)
        #expect(compared.toTown == 2 && compared.toPlain == 8 && compared.toBestPeer == 0.5)
        #expect(town.compared(withPlain: 0.5, bestPeer: nil, town: town).toTown == nil)
    }

    @Test func worstClientCounts() throws {
        func client(_ p50: Double, _ p99: Double) throws -> TouchClient.Tail {
            try TouchClient.Tail([Double](repeating: p50, count: 98) + [p99, p99])
        }
        func round(_ tails: [(Double, Double)]) throws -> [TouchClient] {
            try tails.map { TouchClient(write: try client($0.0, $0.1), read: try client(1, 1)) }
        }
        let crowd = try TouchReport.Crowd(
            target: .mount, rounds: [round([(1, 2), (2, 40)]), round([(1, 2), (2, 40)]), round([(1, 900), (2, 4)])])
        #expect(crowd.clients.map(\.write.p99) == [2, 40])
        #expect(crowd.worstWriteTail == 20 && crowd.worstReadTail == 1)
    }

    @Test func axisCoversItsValuesAndBarsBeginAtTheOrigin() {
        let scale = LogScale(values: [0.7, 3, 42, 1], origin: 1)
        #expect(scale.ticks == [0.5, 1, 2, 5, 10, 20, 50])
        #expect(scale.start == scale.x(of: 1))
        #expect(scale.x(of: 0.7) < scale.start && scale.x(of: 42) > scale.x(of: 3))
        #expect(LogScale(values: [0.001, 90_000], origin: nil).ticks.count < 12)
        #expect(LogScale(values: [], origin: nil).ticks.count > 1)
    }
}
