import Glibc

/// One of many clients at once, each with a signal file of its own: it writes and reads in turn, without a pause.
struct TouchClient: Codable {
    let write: Tail
    let read: Tail

    /// The middle and the end of a sample, in microseconds.
    struct Tail: Codable {
        let count: Int
        let p50: Double
        let p99: Double

        init(_ sample: [Double]) throws {
            guard let percentiles = Percentiles(sample) else { throw BenchFailure("a client never got its turn") }
            count = sample.count
            p50 = percentiles.median
            p99 = percentiles[0.99]
        }
    }
}

extension TouchClient {
    /// Begins at `start`, so that all clients do at once, and goes on for some time.
    init(of file: GoFile, start: MonotonicTime, for time: Duration) throws {
        let clock = ContinuousClock()
        var writes: [Double] = []
        var reads: [Double] = []
        start.sleep()
        let end = clock.now + time
        var now = clock.now
        while now < end {
            let document = CheckedDocument(number: writes.count, length: 16).bytes
            let begin = clock.now
            try file.write(document)
            let middle = clock.now
            _ = try file.read()
            now = clock.now
            writes.append(begin.duration(to: middle).microseconds)
            reads.append(middle.duration(to: now).microseconds)
        }
        write = try Tail(writes)
        read = try Tail(reads)
    }
}

/// A time on the clock that all processes share, in nanoseconds.
struct MonotonicTime {
    let nanoseconds: Int

    static var now: MonotonicTime {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return MonotonicTime(nanoseconds: time.tv_sec * 1_000_000_000 + time.tv_nsec)
    }

    /// Returns when that time has come.
    func sleep() {
        var time = timespec(tv_sec: nanoseconds / 1_000_000_000, tv_nsec: nanoseconds % 1_000_000_000)
        while clock_nanosleep(CLOCK_MONOTONIC, Int32(TIMER_ABSTIME), &time, nil) == EINTR {}
    }
}
