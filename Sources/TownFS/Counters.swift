import Liveness
import Synchronization

/// What has happened in a town since it was mounted.
final class Counters: Sendable {
    private let turnedDown = Atomic<UInt64>(0)
    private let ahead = Atomic<UInt64>(0)
    private let exited = Atomic<UInt64>(0)
    private let dropped = Atomic<UInt64>(0)
    private let sources: InlineArray<8, Atomic<UInt64>> = InlineArray { _ in Atomic(0) }
    private let attributions: InlineArray<16, Atomic<UInt64>> = InlineArray { _ in Atomic(0) }

    /// Touches through signal files.
    var touches: UInt64 {
        Touch.Source.allCases.reduce(0) { $0 + ($1 == .activity || $1 == .command ? 0 : touches(by: $1)) }
    }
    /// Writes that were no documents.
    var refused: UInt64 { turnedDown.load(ordering: .relaxed) }
    /// Documents whose timestamp was ahead of the clock.
    var fromFuture: UInt64 { ahead.load(ordering: .relaxed) }
    /// Runtimes whose root process was seen to end.
    var exits: UInt64 { exited.load(ordering: .relaxed) }
    /// Activity that was not looked at, as there was too much of it.
    var activityDropped: UInt64 { dropped.load(ordering: .relaxed) }

    func touches(by source: Touch.Source) -> UInt64 {
        sources[Self.index(source)].load(ordering: .relaxed)
    }

    /// How touches through signal files were attributed: how many by each evidence, to nobody, to whom they are no sign of
    /// life.
    var attributed: [(by: String, count: UInt64)] {
        let words = Attribution.Evidence.all.map(\.description) + ["nobody", "excluded"]
        return words.enumerated().map { ($1, attributions[$0].load(ordering: .relaxed)) }
    }

    func countTouch(_ source: Touch.Source) { sources[Self.index(source)].wrappingAdd(1, ordering: .relaxed) }
    func noteRefused() { turnedDown.wrappingAdd(1, ordering: .relaxed) }
    func noteFromFuture() { ahead.wrappingAdd(1, ordering: .relaxed) }
    func noteExit() { exited.wrappingAdd(1, ordering: .relaxed) }
    func noteActivityDropped() { dropped.wrappingAdd(1, ordering: .relaxed) }

    func note(_ attribution: Attribution) {
        let all = Attribution.Evidence.all
        let index =
            switch attribution {
            case .runtime(_, let evidence): all.firstIndex(of: evidence) ?? all.count
            case .nobody: all.count
            case .excluded: all.count + 1
            }
        attributions[index].wrappingAdd(1, ordering: .relaxed)
    }

    private static func index(_ source: Touch.Source) -> Int {
        switch source {
        case .written: 0
        case .renamed: 1
        case .attributes: 2
        case .command: 3
        case .activity: 4
        }
    }
}
