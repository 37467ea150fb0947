import Synchronization

/// For how long it is worth to look out for the next request before going to sleep: judged by how soon the last ones came.
///
/// A client that makes one request after the other has the next ready some microseconds after it has its answer, and being
/// woken costs more than answering: up to 75 µs where the client runs on another core. A client that thinks for longer
/// than that is not worth a busy core, and neither is one that has gone.
///
/// Nor is anybody where other programs want the core: who keeps it busy is made to wait behind them, and who sleeps is
/// woken before them.
struct SpinPolicy: ~Copyable {
    /// Nobody is awaited for longer than this, in nanoseconds.
    static let most: UInt64 = 200_000
    /// Everybody who has just been answered is awaited for this long, unless others want the core.
    static let least: UInt64 = 40_000
    /// What counts as one long pause: a person's, or a compiler's.
    private static let longest: UInt64 = 1_000_000

    /// A look that takes this long has let somebody else have the core who does not yield it, as a compiler.
    static let crowded: UInt64 = 1_000_000
    /// For how many requests nobody looks out then, at first: twice as many each time, as finding out takes as long as they do.
    static let fewestCrowded: UInt64 = 256
    static let mostCrowded: UInt64 = 16_384

    /// For how many requests more others are believed to want the core.
    private let crowdedFor = Atomic<UInt64>(0)
    /// For how many they will be, if they do.
    private let nextCrowded = Atomic<UInt64>(SpinPolicy.fewestCrowded)
    /// How many looks have not been disturbed since.
    private let undisturbed = Atomic<UInt64>(0)

    /// How soon requests have come of late, in nanoseconds after the thread was ready for them: a moving average.
    private let usual = Atomic<UInt64>(SpinPolicy.least)

    /// For how many nanoseconds to look out, from the moment at which the thread is ready.
    ///
    /// 0 where others want the core.
    var limit: UInt64 {
        let crowdedFor = crowdedFor.load(ordering: .relaxed)
        if crowdedFor > 0 {
            self.crowdedFor.store(crowdedFor - 1, ordering: .relaxed)
            return 0
        }
        let usual = usual.load(ordering: .relaxed)
        // Not worth a longer look.
        guard usual < Self.most else { return Self.least }
        return min(max(usual * 3, Self.least), Self.most)
    }

    /// For how many nanoseconds of that nobody else is let have the core.
    ///
    /// A client on another core is back by then; one that has only this core to run on needs it, and so may others.
    var ownTime: UInt64 { min(usual.load(ordering: .relaxed) * 2, Self.least) }

    /// Notes how many nanoseconds one look has taken, perhaps with a yield to whoever wanted the core.
    ///
    /// - Returns: Whether it is better to sleep now.
    func isCrowded(_ look: UInt64) -> Bool {
        guard look > Self.crowded else { return false }
        let requests = nextCrowded.load(ordering: .relaxed)
        crowdedFor.store(requests, ordering: .relaxed)
        nextCrowded.store(min(requests * 2, Self.mostCrowded), ordering: .relaxed)
        undisturbed.store(0, ordering: .relaxed)
        return true
    }

    /// Notes that a request has been found without anybody's wanting the core meanwhile.
    func noteUndisturbed() {
        let looks = undisturbed.load(ordering: .relaxed) + 1
        undisturbed.store(looks, ordering: .relaxed)
        if looks >= nextCrowded.load(ordering: .relaxed) {
            nextCrowded.store(Self.fewestCrowded, ordering: .relaxed)
        }
    }

    /// Notes when a request has come, in nanoseconds after the thread was ready for it.
    func note(_ pause: UInt64) {
        // Threads may overwrite each other's notes: it is an estimate.
        let usual = usual.load(ordering: .relaxed)
        self.usual.store((usual * 7 + min(pause, Self.longest)) / 8, ordering: .relaxed)
    }
}
