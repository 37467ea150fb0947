extension TouchReport {
    /// Many clients on one target, each with a signal file of its own.
    struct Crowd: Codable {
        let target: Target.Name
        let clients: [Client]
        /// The highest p99 ÷ p50 of any client.
        let worstWriteTail: Double
        let worstReadTail: Double

        /// Takes each round's clients, in the same order in each.
        init(target: Target.Name, rounds: [[TouchClient]]) throws {
            self.target = target
            let count = rounds.map(\.count).min() ?? 0
            clients = try (0..<count).map { client in
                Client(
                    write: try Tail(rounds.map { $0[client].write }), read: try Tail(rounds.map { $0[client].read }))
            }
            worstWriteTail = clients.map(\.write.ratio).max() ?? 0
            worstReadTail = clients.map(\.read.ratio).max() ?? 0
        }
    }

    /// One client: percentiles within each round, then the median over the rounds.
    struct Client: Codable {
        let write: Tail
        let read: Tail
    }

    struct Tail: Codable {
        let p50: Double
        let p99: Double
        /// p99 ÷ p50.
        let ratio: Double

        init(_ rounds: [TouchClient.Tail]) throws {
            guard let halves = Percentiles(rounds.map(\.p50)), let tails = Percentiles(rounds.map(\.p99)) else {
                throw BenchFailure("no client has measured anything")
            }
            p50 = halves.median
            p99 = tails.median
            ratio = p99 / p50
        }
    }

    /// The worker's CPU time in a window that begins 1 ms after the end of a burst of touches.
    struct Burst: Codable {
        let touches: Int
        let windowSeconds: Double
        /// After each burst, in microseconds.
        let microseconds: [Double]
        let median: Double
        let worst: Double

        init(touches: Int, windowSeconds: Double, microseconds: [Double]) {
            self.touches = touches
            self.windowSeconds = windowSeconds
            self.microseconds = microseconds
            median = Percentiles(microseconds)?.median ?? 0
            worst = microseconds.max() ?? 0
        }
    }

    /// The processes behind the mount.
    struct Servers: Codable {
        /// Files met by the walk (readdir and lstat of each) after which the memory was read.
        let walkedFiles: Int
        let idleSeconds: Double
        let keeper: Cost
        let worker: Cost
    }

    struct Cost: Codable {
        let pid: Int32
        let rss: Int
        let pss: Int
        /// CPU time in the idle window, in milliseconds; the kernel counts in steps, mostly of 10 ms.
        let idleCPUMilliseconds: Double

        enum CodingKeys: String, CodingKey {
            case pid, rss, pss
            // As the JSON key reads in camel case, which the decoder compares with.
            case idleCPUMilliseconds = "idleCpuMilliseconds"
        }
    }
}
