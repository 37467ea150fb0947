import ArgumentParser
import Daemon
import Glibc
import Linux
import SystemPackage
import TownFS

struct Upgrade: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Let this version of pulsefs serve a mounted town.",
        discussion: """
            Replaces keeper and worker by processes of this program. No call in the town fails; those that come meanwhile \
            wait for some milliseconds. Refused, before anything stops, if this version cannot take over the state of \
            the one that serves.
            """)

    @Argument(help: .town, completion: .directory)
    var town: String

    private static let limit: Duration = .seconds(20)

    func run() throws {
        let mount = try TownPath(town).requireMount()
        guard let former = try TownAnswer.status(of: mount).get(from: mount) else {
            throw Failure("this version does not understand the status of \(town).", .couldNotTell)
        }
        guard former.stateFormat == SharedState.format else {
            throw Failure(
                "version \(PulseFS.version) cannot take over \(town) from version \(former.version): unmount it, and "
                    + "mount it again.")
        }
        var keeper = former.keeperPid
        guard kill(keeper, Keeper.upgradeSignal) == 0 || errno == ESRCH else {
            throw Failure("\(town) was mounted by another user; only they and root may upgrade it.")
        }
        let limit = ContinuousClock.now + Self.limit
        while ContinuousClock.now < limit {
            if let status = try TownAnswer.status(of: mount).get(from: mount) {
                if status.workerPid != former.workerPid, Self.isThisProgram(status.workerPid) {
                    print("\(town) is served by pulsefs \(status.version) now.")
                    return
                }
                if status.keeperPid != keeper {
                    // The former one has died before it got to that.
                    keeper = status.keeperPid
                    kill(keeper, Keeper.upgradeSignal)
                }
            }
            // Nothing announces another worker; a takeover lasts some tens of milliseconds.
            usleep(10_000)
        }
        throw Failure("\(town) is still served by version \(former.version); the log says why.")
    }

    /// Whether a process runs this program, and not another worker in place of one that has died.
    private static func isThisProgram(_ pid: pid_t) -> Bool {
        guard let other = try? ProcFS.link("/proc/\(pid)/exe"), let own = try? ProcFS.link("/proc/self/exe") else {
            return false
        }
        return other == own
    }
}
