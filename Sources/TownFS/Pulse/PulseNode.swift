import Glibc
import Liveness

/// What an inode of `.pulse` stands for.
enum PulseNode: Hashable, Sendable {
    case top
    case status
    case metrics
    /// What happens from when it is opened on.
    case events
    /// What has happened from an event's number on; in no listing.
    case eventsFrom(UInt64)
    /// A directory of `runtimes/`, by what the ids of all runtimes in it begin with: empty, or ending in a slash.
    case runtimes(String)
    case runtime(RuntimeID)
    /// A directory of `alive/`, likewise.
    case livingBeneath(String)
    case living(RuntimeID)
    /// A directory of `alive/` by its other name, `gastown@`; in no listing.
    case way(String)

    static let statusName = "status.json"
    static let metricsName = "metrics"
    static let eventsName = "events"
    static let runtimesName = "runtimes"
    static let aliveName = "alive"
    /// Of a runtime's file.
    static let suffix = ".json"
    /// The runtime whose id is that of a directory; between `events` and a number; after the other name of a directory.
    static let at: Character = "@"

    var isDirectory: Bool {
        switch self {
        case .top, .runtimes, .livingBeneath, .way: true
        case .status, .metrics, .events, .eventsFrom, .runtime, .living: false
        }
    }

    /// Permissions, of which the kernel takes care.
    var permissions: mode_t {
        switch self {
        case .top: 0o555
        case .runtimes, .livingBeneath, .way: 0o755
        case .living: 0o644
        case .status, .metrics, .events, .eventsFrom, .runtime: 0o444
        }
    }

    /// Below `.pulse`; the same in every mount.
    var path: String {
        switch self {
        case .top: ""
        case .status: Self.statusName
        case .metrics: Self.metricsName
        case .events: Self.eventsName
        case .eventsFrom(let number): "\(Self.eventsName)\(Self.at)\(number)"
        case .runtimes(let prefix): "\(Self.runtimesName)/\(prefix)"
        case .runtime(let id): "\(Self.runtimesName)/\(id)\(Self.suffix)"
        case .livingBeneath(let prefix): "\(Self.aliveName)/\(prefix)"
        case .living(let id): "\(Self.aliveName)/\(id)"
        case .way(let prefix): "\(Self.aliveName)/\(prefix)\(Self.at)"
        }
    }

    /// The last component of its path.
    var name: String { path.split(separator: "/").last.map(String.init) ?? "" }
}
