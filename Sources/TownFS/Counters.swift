import Synchronization

/// What has happened to a town's signal files since it was mounted.
final class Counters: Sendable {
    private let touched = Atomic<UInt64>(0)
    private let turnedDown = Atomic<UInt64>(0)
    private let ahead = Atomic<UInt64>(0)

    /// Touches received.
    var touches: UInt64 { touched.load(ordering: .relaxed) }
    /// Writes that were no documents.
    var refused: UInt64 { turnedDown.load(ordering: .relaxed) }
    /// Documents whose timestamp was ahead of the clock.
    var fromFuture: UInt64 { ahead.load(ordering: .relaxed) }

    func noteTouch() { touched.wrappingAdd(1, ordering: .relaxed) }
    func noteRefused() { turnedDown.wrappingAdd(1, ordering: .relaxed) }
    func noteFromFuture() { ahead.wrappingAdd(1, ordering: .relaxed) }
}
