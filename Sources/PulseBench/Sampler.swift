/// Times one operation again and again.
struct Sampler {
    /// How many times are taken down.
    let count: Int
    /// How many runs come before them, untimed: they fill caches and fault in code.
    var warmUps = 20

    /// The time of each run; `operation` gets the number of the run, and `prepare` runs before it, untimed.
    func samples<Input>(
        prepare: (Int) throws -> Input,
        operation: (Input) throws -> Void
    ) rethrows -> [Duration] {
        let clock = ContinuousClock()
        var samples: [Duration] = []
        samples.reserveCapacity(count)
        for run in 0..<(warmUps + count) {
            let input = try prepare(run)
            let start = clock.now
            try operation(input)
            let time = start.duration(to: clock.now)
            if run >= warmUps { samples.append(time) }
        }
        return samples
    }
}

extension Duration {
    var microseconds: Double { self / .microseconds(1) }
}
