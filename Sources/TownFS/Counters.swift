import Synchronization

/// What has happened in a town since it was mounted.
final class Counters: Sendable {
    /// Touches received through signal files.
    let touches = Atomic<UInt64>(0)
    /// Writes to signal files that were no documents.
    let refused = Atomic<UInt64>(0)
    /// Documents whose timestamp was ahead of the clock.
    let fromFuture = Atomic<UInt64>(0)
}
