import CLinux
import Linux
import Liveness

/// Counts of events since the mount, in memory that outlives the worker.
package final class Counters: Sendable {
    /// In bytes.
    static let size = 4096

    /// The words of the memory.
    private enum Word {
        static let refused = 0
        static let fromFuture = 1
        static let exits = 2
        static let activityDropped = 3
        static let eventsLost = 4
        /// In nanoseconds; 0 for nil.
        static let lastServed = 5
        static let restoredRuntimes = 6
        static let restoredForgotten = 7
        /// In seconds since 1970; 0 for nil.
        static let restoredFrom = 40
        /// By `Touch.Source.code`.
        static let sources = 8
        /// By `Attribution.Evidence.all`, a preset's variable, `unknown`, `excluded` and `onBehalf`.
        static let attributions = 16
    }

    private let memory: SharedMemory
    // because `memory` keeps it mapped, and words are accessed atomically.
    private nonisolated(unsafe) let words: UnsafeMutablePointer<UInt64>

    /// - Parameter offset: The offset of `size` bytes.
    init(in memory: SharedMemory, at offset: Int) {
        self.memory = memory
        words = memory[offset, Self.size].assumingMemoryBound(to: UInt64.self).baseAddress!  // because it is not empty.
    }

    /// Touches through signal files.
    var touches: UInt64 {
        Touch.Source.allCases.reduce(0) {
            $0 + ([.activity, .background, .command].contains($1) ? 0 : touches(by: $1))
        }
    }
    /// Rejected writes.
    var refused: UInt64 { self[Word.refused] }
    /// Documents whose timestamp was ahead of the clock.
    var fromFuture: UInt64 { self[Word.fromFuture] }
    /// Runtimes whose root process has ended.
    var exits: UInt64 { self[Word.exits] }
    /// Activity that was dropped, as there was too much of it.
    var activityDropped: UInt64 { self[Word.activityDropped] }
    /// Events that slow readers have lost.
    var eventsLost: UInt64 { self[Word.eventsLost] }

    /// What the mount has taken over from an earlier one; nil for nothing.
    var restored: StateFile.Restored? {
        get {
            guard self[Word.restoredFrom] != 0 else { return nil }
            return StateFile.Restored(
                runtimes: Int(self[Word.restoredRuntimes]), forgotten: Int(self[Word.restoredForgotten]),
                savedAt: WallTime(seconds: Int64(self[Word.restoredFrom])))
        }
        set {
            clinux_store_release(words + Word.restoredRuntimes, UInt64(newValue?.runtimes ?? 0))
            clinux_store_release(words + Word.restoredForgotten, UInt64(newValue?.forgotten ?? 0))
            clinux_store_release(words + Word.restoredFrom, UInt64(newValue?.savedAt.seconds ?? 0))
        }
    }

    /// See `LivenessPersistence.saveServed`.
    var lastServed: Duration? {
        get { self[Word.lastServed] == 0 ? nil : .nanoseconds(Int64(self[Word.lastServed])) }
        set {
            let (seconds, attoseconds) = (newValue ?? .zero).components
            clinux_store_release(words + Word.lastServed, UInt64(seconds * 1_000_000_000 + attoseconds / 1_000_000_000))
        }
    }

    func touches(by source: Touch.Source) -> UInt64 { self[Word.sources + Int(source.code)] }

    /// How touches through signal files were attributed: counts by evidence, `nobody`, `excluded` and
    /// `on_behalf`.
    var attributed: [(by: String, count: UInt64)] {
        let words = Attribution.Evidence.all.map(\.description) + ["variable", "nobody", "excluded", "on_behalf"]
        return words.enumerated().map { ($1, self[Word.attributions + $0]) }
    }

    func countTouch(_ source: Touch.Source) { add(1, to: Word.sources + Int(source.code)) }
    func countRefused() { add(1, to: Word.refused) }
    func countFromFuture() { add(1, to: Word.fromFuture) }
    func countExit() { add(1, to: Word.exits) }
    func countDroppedActivity() { add(1, to: Word.activityDropped) }
    func countLostEvents(_ count: UInt64) { add(count, to: Word.eventsLost) }

    func count(_ attribution: Attribution) {
        let all = Attribution.Evidence.all
        let index =
            switch attribution {
            // A variable that a preset names is in no list.
            case .runtime(_, let evidence): all.firstIndex(of: evidence) ?? all.count
            case .unknown: all.count + 1
            case .excluded: all.count + 2
            case .onBehalf: all.count + 3
            }
        add(1, to: Word.attributions + index)
    }

    private subscript(word: Int) -> UInt64 { clinux_load_acquire(words + word) }

    private func add(_ count: UInt64, to word: Int) { clinux_add(words + word, count) }
}
