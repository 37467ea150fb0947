import Synchronization

/// How long a waiting thread busy-polls for the next request before it blocks.
///
/// A client that makes one request after another has the next one ready some microseconds after its reply, while waking
/// a thread takes up to 75 µs where the client runs on another core. A client that pauses for longer is not worth a
/// busy core. Where other programs want the core, busy-polling only makes us wait behind them, and a blocked thread is
/// scheduled before them.
///
/// Times are in nanoseconds. Threads may overwrite each other's records: these are estimates.
struct SpinPolicy: ~Copyable {
    /// The longest busy-poll.
    static let longest: UInt64 = 200_000
    /// The shortest busy-poll, for a client whose pauses are long.
    static let shortest: UInt64 = 40_000
    /// Longer waits, of a person or a compiler, count as this.
    private static let longestWait: UInt64 = 1_000_000
    /// One look that takes this long has yielded the core to a program that does not yield it back.
    static let contendedLook: UInt64 = 1_000_000
    /// The number of requests without busy-polling after a contended look; it doubles each time up to the maximum.
    static let fewestPaused: UInt64 = 256
    static let mostPaused: UInt64 = 16_384

    private let pausedFor = Atomic<UInt64>(0)
    private let nextPause = Atomic<UInt64>(SpinPolicy.fewestPaused)
    /// Successful busy-polls since the last contended look.
    private let uncontended = Atomic<UInt64>(0)
    /// Moving average of the wait for a request.
    private let usualWait = Atomic<UInt64>(SpinPolicy.shortest)

    /// How long to busy-poll now; 0 while other programs want the core.
    var limit: UInt64 {
        let pausedFor = pausedFor.load(ordering: .relaxed)
        if pausedFor > 0 {
            self.pausedFor.store(pausedFor - 1, ordering: .relaxed)
            return 0
        }
        let usualWait = usualWait.load(ordering: .relaxed)
        guard usualWait < Self.longest else { return Self.shortest }
        return min(max(usualWait * 3, Self.shortest), Self.longest)
    }

    /// How long to busy-poll without yielding the core.
    ///
    /// A client on another core is back by then. One that has only this core needs it.
    var timeBeforeYield: UInt64 { min(usualWait.load(ordering: .relaxed) * 2, Self.shortest) }

    /// Whether one look, perhaps with a yield in it, took so long that it is better to block; records it if so.
    func isContended(_ look: UInt64) -> Bool {
        guard look > Self.contendedLook else { return false }
        let pause = nextPause.load(ordering: .relaxed)
        pausedFor.store(pause, ordering: .relaxed)
        nextPause.store(min(pause * 2, Self.mostPaused), ordering: .relaxed)
        uncontended.store(0, ordering: .relaxed)
        return true
    }

    /// Records that busy-polling found a request.
    func recordUncontended() {
        let looks = uncontended.load(ordering: .relaxed) + 1
        uncontended.store(looks, ordering: .relaxed)
        if looks >= nextPause.load(ordering: .relaxed) {
            nextPause.store(Self.fewestPaused, ordering: .relaxed)
        }
    }

    /// Records how long the thread was ready before a request came.
    func recordWait(_ wait: UInt64) {
        let usualWait = usualWait.load(ordering: .relaxed)
        self.usualWait.store((usualWait * 7 + min(wait, Self.longestWait)) / 8, ordering: .relaxed)
    }
}
