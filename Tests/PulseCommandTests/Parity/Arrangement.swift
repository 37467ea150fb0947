import Testing

/// Who mounts, who comes, and where they work.
enum Arrangement: String, CaseIterable, Sendable, CustomTestStringConvertible {
    /// Root's mount, which nobody else may enter.
    case ofRoot = "a mount of root's"
    /// Made by `fusermount3`.
    case ofOrdinaryUser = "a mount of an ordinary user's"
    case shared = "a shared mount of root's"
    /// Shared as well; the kernel asks anew for what it would know otherwise.
    case sharedBacking = "a shared mount over a tree that others change"
    /// Shared as well, and all is done next to signal files.
    case amongSignalFiles = "directories of signal files"
    /// Shared as well, next to signal files, in a mount over no more than the directory that holds these.
    case inCover = "directories of signal files in signals scope"

    var testDescription: String { rawValue }

    var options: [String] {
        switch self {
        case .ofRoot, .ofOrdinaryUser: []
        case .shared, .amongSignalFiles: ["--allow-other"]
        case .sharedBacking: ["--allow-other", "--shared-backing"]
        case .inCover: ["--allow-other", "--scope=signals", "--signal", "\(Self.cover)/*/keepalive.json"]
        }
    }

    var user: Command.User? { self == .ofOrdinaryUser ? .nobody : nil }

    /// Those in which a mount has all that the kernel gives to root's.
    static let madeByRoot = Set(allCases.filter { $0.user == nil })

    /// Who makes the calls of which no scenario says by whom.
    var owner: TestUser { self == .ofOrdinaryUser ? .nobody : .root }

    /// Whether callers other than the owner get in.
    var admitsOthers: Bool { options.contains("--allow-other") }

    /// Whether a scenario makes sense here.
    func admits(_ scenario: Scenario) -> Bool { admitsOthers || !scenario.hasSeveralCallers }

    private static let cover = ".runtime"

    /// The directory that all stages lie in.
    func ground(of town: String) -> String { self == .inCover ? "\(town)/\(Self.cover)" : town }

    /// Where one scenario is played.
    struct Stage {
        /// From the ground.
        let directory: String
        /// The name of a signal file in it, which is written before.
        let signal: String?
    }

    func stage(for number: Int) -> Stage {
        guard self == .amongSignalFiles else {
            return Stage(directory: "s\(number)", signal: self == .inCover ? "keepalive.json" : nil)
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
