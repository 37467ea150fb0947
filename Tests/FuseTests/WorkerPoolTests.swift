import Fuse
import Glibc
import Linux
import Synchronization
import Testing

@Suite struct WorkerPoolTests {
    @Test func oneThreadWaitsAndTheOthersStayParked() throws {
        let own = try EventFD()
        try withCrew(of: 4) { pool, others in
            // Each request is waited for: a client that asks one thing after another needs no second thread.
            for _ in 0..<1000 {
                pool.serve(from: 1, wasThere: false, parking: own)
            }
            #expect(pool.parkedThreads == 3)
            #expect(others.reading.load(ordering: .relaxed) == 0)
        }
    }

    @Test func anotherThreadJoinsWhenRequestsAreFoundWaiting() throws {
        let own = try EventFD()
        try withCrew(of: 4) { pool, others in
            for client in 1...8 {
                #expect(others.reading.load(ordering: .relaxed) == 0)
                pool.serve(from: pid_t(client), wasThere: true, parking: own)
            }
            #expect(eventually { others.reading.load(ordering: .relaxed) == 1 })
            #expect(pool.parkedThreads == 2)
        }
    }

    @Test func noMoreThreadsJoinThanHalfOfTheCoresHaveRoomFor() throws {
        let own = try EventFD()
        try withCrew(of: 4, cores: 4) { pool, others in
            for client in 1...1000 {
                pool.serve(from: pid_t(client), wasThere: true, parking: own)
            }
            #expect(eventually { others.reading.load(ordering: .relaxed) == 1 })
            #expect(pool.parkedThreads == 2)
        }
    }

    @Test func moreJoinWhereRequestsTakeLong() throws {
        let own = try EventFD()
        try withCrew(of: 4, cores: 1) { pool, others in
            for client in 1...100 {
                // Some do, as whoever answers is made to wait for a core now and then.
                pool.serve(
                    from: pid_t(client), wasThere: true, lastAnswer: client % 20 == 0 ? 3_000_000 : 10_000, parking: own
                )
            }
            #expect(pool.parkedThreads == 3)
            // Nearly all do, as each has to wait for a disk.
            for client in 1...100 {
                pool.serve(from: pid_t(client), wasThere: true, lastAnswer: 150_000, parking: own)
            }
            #expect(eventually { others.reading.load(ordering: .relaxed) == 3 })
        }
    }

    @Test func oneClientAloneIsServedByOneThread() throws {
        let own = try EventFD()
        try withCrew(of: 4) { pool, others in
            // On the core of the thread that answers it, it has always asked again before that thread comes to look; and
            // what it closes is there besides.
            for _ in 0..<1000 {
                pool.serve(from: 7, wasThere: true, parking: own)
                pool.serve(from: nil, wasThere: true, parking: own)
            }
            #expect(pool.parkedThreads == 3)
            #expect(others.reading.load(ordering: .relaxed) == 0)
        }
    }

    @Test func clientsThatCannotBeToldApartAreTakenForSeveral() throws {
        let own = try EventFD()
        try withCrew(of: 4) { pool, others in
            for _ in 0..<8 {
                pool.serve(from: 0, wasThere: true, parking: own)
            }
            #expect(eventually { others.reading.load(ordering: .relaxed) == 1 })
        }
    }

    @Test func anotherThreadJoinsWhenTheOneThatReadsIsHeldUp() throws {
        try withCrew(of: 2, patience: .milliseconds(1)) { pool, others in
            // A request that takes long: nobody waits for the next one until the watch finds out.
            pool.took(from: 1, wasThere: false)
            #expect(eventually { others.reading.load(ordering: .relaxed) == 1 })
        }
    }

    @Test func allThreadsEndWithTheConnection() throws {
        try withCrew(of: 12) { _, _ in }
    }

    /// What has become of the crew's other threads.
    private final class Others: Sendable {
        let started = Atomic(0)
        let reading = Atomic(0)
        let ended = Atomic(0)
    }

    /// Runs `body` as the thread of a crew that waits for a request, the others being parked; then ends them all.
    ///
    /// - Parameter patience: Long, as on a busy machine any thread may be held up between two requests.
    private func withCrew(
        of threads: Int, cores: Int = 8, patience: Duration = .seconds(600), _ body: (WorkerPool, Others) throws -> Void
    ) throws {
        let pool = try WorkerPool(threads: threads, cores: cores, patience: patience)
        let others = Others()
        let watch = try Thread(named: "watch") { pool.watch() }
        let outcome = Result { try start(threads - 1, of: pool, others) { try body(pool, others) } }
        pool.end()
        watch.join()
        #expect(eventually { others.ended.load(ordering: .relaxed) == others.started.load(ordering: .relaxed) })
        try outcome.get()
    }

    private func start(_ number: Int, of pool: WorkerPool, _ others: Others, _ body: () throws -> Void) throws {
        pool.begin()
        let own = try EventFD()
        #expect(pool.awaitTurn(parking: own))
        for _ in 0..<number {
            let parking = try EventFD()
            _ = try Thread(named: "other") {
                if pool.awaitTurn(parking: parking) { others.reading.add(1, ordering: .relaxed) }
                others.ended.add(1, ordering: .relaxed)
            }
            others.started.add(1, ordering: .relaxed)
        }
        #expect(eventually { pool.parkedThreads == number })
        try body()
    }

    private func eventually(_ isSo: () -> Bool) -> Bool {
        let limit = ContinuousClock.now + .seconds(20)
        while !isSo() {
            if ContinuousClock.now > limit { return false }
            sched_yield()
        }
        return true
    }
}

extension WorkerPool {
    /// Takes a request and has answered it, as the thread that waits for one.
    fileprivate func serve(from client: pid_t?, wasThere: Bool, lastAnswer: UInt64 = 0, parking own: EventFD) {
        took(from: client, wasThere: wasThere, lastAnswer: lastAnswer)
        #expect(awaitTurn(parking: own))
    }
}
