import Testing

/// A mount and its users: who mounts, who calls, and in which directories.
enum Arrangement: String, CaseIterable, Sendable, CustomTestStringConvertible {
    /// Root's mount, for root only.
    case ofRoot = "a mount of root's"
    /// A user's mount by `fusermount3`.
    case ofOrdinaryUser = "a mount of an ordinary user's"
    case shared = "a shared mount of root's"
    /// Shared, with `--shared-backing`: the kernel caches less.
    case sharedBacking = "a shared mount over a tree that others change"
    /// Shared, in directories with signal files.
    case amongSignalFiles = "directories of signal files"
    /// Shared, in a mount over a directory of signal files only.
    case inSignalMount = "directories of signal files in signals scope"

    var testDescription: String { rawValue }

    var options: [String] {
        switch self {
        case .ofRoot, .ofOrdinaryUser: []
        case .shared, .amongSignalFiles: ["--allow-other"]
        case .sharedBacking: ["--allow-other", "--shared-backing"]
        case .inSignalMount: ["--allow-other", "--scope=signals", "--signal", "\(Self.mountpoint)/*/keepalive.json"]
        }
    }

    var user: Command.User? { self == .ofOrdinaryUser ? .nobody : nil }

    /// The arrangements with everything that the kernel allows root's mounts.
    static let madeByRoot = Set(allCases.filter { $0.user == nil })

    /// The default caller.
    var owner: TestUser { self == .ofOrdinaryUser ? .nobody : .root }

    /// Whether other users may access the mount.
    var admitsOthers: Bool { options.contains("--allow-other") }

    /// Whether a scenario applies here.
    func admits(_ scenario: Scenario) -> Bool { admitsOthers || !scenario.hasSeveralCallers }

    private static let mountpoint = ".runtime"

    /// The parent directory of all stages.
    func ground(of town: String) -> String { self == .inSignalMount ? "\(town)/\(Self.mountpoint)" : town }

    /// The directory of one scenario.
    struct Stage {
        /// Relative to the parent directory.
        let directory: String
        /// The name of a signal file in it, which is written first.
        let signal: String?
    }

    func stage(for number: Int) -> Stage {
        guard self == .amongSignalFiles else {
            return Stage(directory: "s\(number)", signal: self == .inSignalMount ? "keepalive.json" : nil)
        }
        let stages = [
            Stage(directory: ".runtime", signal: "keepalive.json"),
            Stage(directory: ".runtime/heartbeats", signal: "gt-1.json"),
            Stage(directory: "daemon", signal: "activity.json"),
            Stage(directory: "deacon", signal: ".deacon-heartbeat"),
        ]
        return stages[number % stages.count]
    }
}
