import Dispatch
import Glibc
import Synchronization
import TestSupport
import Testing

/// Kills the worker or the keeper of a town, again and again, while something works in it.
final class Killer: Sendable {
    /// For the keeper: so many deaths are no reason to end the mount.
    static let environment = ["PULSEFS_DEATH_LIMIT": "1000000"]

    private let isEnding = Atomic(false)
    private let ended = DispatchSemaphore(value: 0)

    /// - Parameter seed: Of the choices: the victim and the pause.
    init(of town: MountedTown, seed: UInt64) {
        let scope = TownScope.current
        DispatchQueue(label: "killer").async { [self] in
            TownScope.$current.withValue(scope) {
                var generator = SplitMix64(state: seed)
                while !isEnding.load(ordering: .acquiring) {
                    guard let status = try? town.status() else { continue }
                    // A request that two workers die of fails: each has time to serve what it has inherited, on a slow
                    // disk, too.
                    try? Client.synchronize(directory: town.path)
                    usleep(UInt32.random(in: 100_000...400_000, using: &generator))
                    let isKeeper = Int.random(in: 0..<5, using: &generator) == 0
                    kill(isKeeper ? status.keeperPid : status.workerPid, SIGKILL)
                    _ = eventually {
                        guard let now = try? town.status() else { return false }
                        return isKeeper ? now.keeperPid != status.keeperPid : now.workerPid != status.workerPid
                    }
                }
            }
            ended.signal()
        }
    }

    /// Returns when all processes that were killed have been replaced.
    func end() {
        isEnding.store(true, ordering: .releasing)
        ended.wait()
    }
}
