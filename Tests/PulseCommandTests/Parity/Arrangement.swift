import Testing

/// Who mounts, who comes, and where they work.
enum Arrangement: String, CaseIterable, Sendable, CustomTestStringConvertible {
    /// Root's mount, which nobody else may enter.
    case ofRoot = "a mount of root's"
    /// Made by `fusermount3`.
    case ofOrdinaryUser = "a mount of an ordinary user's"
    case shared = "a shared mount of root's"
    /// Shared as well, and all is done next to signal files.
    case amongSignalFiles = "directories of signal files"

    var testDescription: String { rawValue }

    var options: [String] { admitsOthers ? ["--allow-other"] : [] }

    var user: Command.User? { self == .ofOrdinaryUser ? .nobody : nil }

    /// Who makes the calls of which no scenario says by whom.
    var owner: Caller { self == .ofOrdinaryUser ? .nobody : .root }

    /// Whether callers other than the owner get in.
    var admitsOthers: Bool { self == .shared || self == .amongSignalFiles }

    /// Whether a scenario makes sense here.
    func admits(_ scenario: Scenario) -> Bool { admitsOthers || !scenario.hasSeveralCallers }

    /// Where one scenario is played.
    struct Stage {
        /// From the root of the tree.
        let directory: String
        /// The name of a signal file in it, which is written before.
        let signal: String?
    }

    func stage(for number: Int) -> Stage {
        guard self == .amongSignalFiles else { return Stage(directory: "s\(number)", signal: nil) }
        let stages = [
            Stage(directory: ".runtime", signal: "keepalive.json"),
            Stage(directory: ".runtime/heartbeats", signal: "gt-1.json"),
            Stage(directory: "daemon", signal: "activity.json"),
            Stage(directory: "deacon", signal: ".deacon-heartbeat"),
        ]
        return stages[number % stages.count]
    }
}
