import Dispatch
import Glibc
import Synchronization
import TestSupport
import Testing

/// Kills processes of a town, again and again, while something works in it: worker, keeper, the former program in an
/// upgrade, and redis.
final class Killer: Sendable {
    /// For the keeper: so many deaths are no reason to end the mount.
    static let environment = ["PULSEFS_DEATH_LIMIT": "1000000"]

    private enum Victim {
        case worker, keeper, program, redis
    }

    private let isEnding = Atomic(false)
    private let ended = DispatchSemaphore(value: 0)

    /// - Parameters:
    ///   - redis: Which the town is mirrored to.
    ///   - seed: Of the choices: the victim and the pause.
    init(of town: MountedTown, _ redis: RedisServer?, seed: UInt64) {
        let victims = [Victim.worker, .worker, .worker, .keeper, .program] + (redis == nil ? [] : [.redis])
        let scope = TownScope.current
        DispatchQueue(label: "killer").async { [self] in
            TownScope.$current.withValue(scope) {
                var generator = SplitMix64(state: seed)
                while !isEnding.load(ordering: .acquiring) {
                    // A request that two workers die of fails: each has time to serve what it has inherited, on a slow
                    // disk, too.
                    try? Client.synchronize(directory: town.path)
                    usleep(UInt32.random(in: 100_000...400_000, using: &generator))
                    do {
                        // because there are victims.
                        try strike(victims.randomElement(using: &generator)!, town, redis)
                    } catch {
                        Issue.record(error)
                    }
                }
            }
            ended.signal()
        }
    }

    private func strike(_ victim: Victim, _ town: MountedTown, _ redis: RedisServer?) throws {
        let status = try town.status()
        switch victim {
        case .worker:
            kill(status.workerPid, SIGKILL)
            #expect(try eventually { try town.status().workerPid != status.workerPid })
        case .keeper:
            kill(status.keeperPid, SIGKILL)
            #expect(try eventually { try town.status().keeperPid != status.keeperPid })
        case .program: try town.pulsefs("upgrade", town.path).expectSuccess()
        case .redis:
            redis?.kill()
            try redis?.restart()
        }
    }

    /// Returns when all processes that were killed have been replaced.
    func end() {
        isEnding.store(true, ordering: .releasing)
        ended.wait()
    }
}
