import ArgumentParser
import CLinux
import Glibc
import Liveness
import TownFS

/// The options of a mount, as the command line, `-o` and, on their way to keeper and worker, the processes spell them.
struct MountOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp("For how long a touch proves life: 500ms, 90s, 5m, 1h.", valueName: "duration"),
        transform: { try parseDuration($0) })
    var ttl: Duration = Touch.defaultTTL

    @Option(
        help:
            "What to mount over: town, all of it; or signals, the directories that can hold signal files and nothing else, by a mount each, so that all other work in the town never meets pulsefs."
    )
    var scope = MountScope.town

    @Option(
        help: ArgumentHelp(
            "One more kind of signal file, as a path relative to the town: * ? [a-z] within a name, ** for directories. May be given several times.",
            valueName: "glob"))
    var signal: [String] = []

    @Flag(help: "Only the signal files given with --signal, not those of Gas Town.")
    var noDefaultSignals = false

    @Option(
        help:
            "What a tool finds in place of a signal file that nobody has touched in time: keep the last document, or absent."
    )
    var onExpiry = Town.Expiry.keep

    @Flag(
        help:
            "Do not look at processes: only paths and documents say whose a touch is, work on files counts for nothing, and nobody is seen to exit."
    )
    var noAttribution = false

    @Option(
        help:
            "What work on ordinary files counts for: off, observe as life in pulsefs's own answers, or beat, by which tools read it in an agent's heartbeat, too."
    )
    var activity = Town.Activity.observe

    @Option(
        help: ArgumentHelp(
            "A program whose work on files is no sign of anybody's life, such as an indexer, by its name. May be given several times.",
            valueName: "name"))
    var ignoreCommand: [String] = []

    @Flag(
        help:
            "Somebody else changes files of the town while it is mounted, not through it: ask the file system beneath every second, and keep no more than that."
    )
    var sharedBacking = false

    @Flag(
        help:
            "Let every byte read or written pass through pulsefs, where the kernel could do without: work on files that stay open counts as activity then."
    )
    var noPassthrough = false

    @Flag(
        help: ArgumentHelp(
            "Let other users in, with the permissions that files and directories give them. Files they make are theirs if root mounts. For ordinary users /etc/fuse.conf has to allow it."
        ))
    var allowOther = false

    @Option(
        help: ArgumentHelp(
            "Where keeper and worker write their log. By default /var/log/pulsefs for root, else ~/.local/state/pulsefs.",
            valueName: "file"))
    var log: String?

    @OptionGroup(title: "Mirror in Redis")
    var mirror: MirrorOptions

    @Option(help: .hidden)
    var restrict: [MountRestriction] = []

    @Flag(help: "Stay in the foreground and log to standard error; tells systemd when the town is ready.")
    var foreground = false

    /// - Throws: what is wrong, in a sentence, for an unknown option, a bad duration or a bad glob.
    func validate() throws {
        _ = try patterns()
        if scope == .signals { try checkScope() }
        if noAttribution, activity == .beat {
            throw ValidationError("--activity=beat needs attribution, which --no-attribution turns off.")
        }
        for name in ignoreCommand where name.isEmpty || name.contains("/") {
            throw ValidationError("--ignore-command takes the name of a program, not '\(name)'.")
        }
    }

    private func checkScope() throws {
        for pattern in signalPatterns {
            guard let objection = SignalPatterns.objectionToCovering(pattern) else { continue }
            throw ValidationError("--scope=signals cannot do with the signal pattern '\(pattern)': \(objection).")
        }
        if signalPatterns.isEmpty { throw ValidationError("--scope=signals needs a signal pattern.") }
    }

    private var signalPatterns: [String] { (noDefaultSignals ? [] : SignalPatterns.defaults) + signal }

    func patterns() throws -> SignalPatterns {
        do {
            return try SignalPatterns(signalPatterns)
        } catch {
            throw ValidationError("\(error)")
        }
    }

    func configuration(of town: String) throws -> Town.Configuration {
        var configuration = Town.Configuration(path: town, patterns: try patterns())
        configuration.ttl = ttl
        configuration.expiry = onExpiry
        configuration.looksAtCallers = !noAttribution
        configuration.activity = activity
        configuration.ignoredCommands = Town.Configuration.commonIndexers.union(ignoreCommand)
        configuration.host = Host.name
        configuration.sharesSignals = mirror.share
        // A directory alone may hold files that have further names outside.
        configuration.sharesBacking = sharedBacking || scope == .signals
        configuration.usesPassthrough = !noPassthrough
        configuration.isReadOnly = restrict.contains(.readOnly)
        return configuration
    }

    /// The arguments that say the same to the worker.
    var arguments: [String] {
        var arguments = ["--ttl", "\(ttl.nanoseconds)ns", "--on-expiry", onExpiry.rawValue]
        if scope != .town { arguments += ["--scope", scope.rawValue] }
        for glob in signal { arguments += ["--signal", glob] }
        if noAttribution { arguments.append("--no-attribution") }
        if activity != .observe { arguments += ["--activity", activity.rawValue] }
        for name in ignoreCommand { arguments += ["--ignore-command", name] }
        if noDefaultSignals { arguments.append("--no-default-signals") }
        if sharedBacking { arguments.append("--shared-backing") }
        if noPassthrough { arguments.append("--no-passthrough") }
        if allowOther { arguments.append("--allow-other") }
        for restriction in restrict { arguments += ["--restrict", restriction.rawValue] }
        return arguments + mirror.arguments
    }

    // MARK: Durations

    /// Reads a whole number and a unit, `90s`.
    ///
    /// More than nothing, and at most 100 years.
    static func parseDuration(_ text: String) throws -> Duration {
        do {
            return try Duration(spelled: text)
        } catch {
            throw ValidationError("\(error)")
        }
    }

    // MARK: -o

    /// Options of mount(8) and fstab(5) that are not for a file system to understand.
    private static let generic: Set<String> = [
        "defaults", "rw", "auto", "noauto", "user", "nouser", "users", "nofail", "_netdev", "exec", "suid", "dev",
        "relatime", "noatime", "strictatime", "async", "owner", "group", "silent",
    ]

    private static let withValue: Set<String> = [
        "ttl", "scope", "signal", "on-expiry", "log", "redis", "redis-file", "redis-ca", "redis-prefix", "town-name",
        "runtime-ids", "activity", "ignore-command",
    ]

    /// Turns the words of `-o` into options of the long kind: `ttl=90s` into `--ttl 90s`.
    static func arguments(fromMountOptions lists: [String]) throws -> [String] {
        var arguments: [String] = []
        for word in lists.flatMap({ $0.split(separator: ",") }) {
            let parts = word.split(separator: "=", maxSplits: 1).map(String.init)
            switch (parts[0], parts.dropFirst().first) {
            case (let name, let value?) where withValue.contains(name):
                arguments += ["--\(name)", value]
            case ("no-default-signals", nil), ("no-attribution", nil), ("foreground", nil), ("allow-other", nil),
                ("share", nil), ("shared-backing", nil), ("no-passthrough", nil):
                arguments.append("--\(parts[0])")
            // mount(8)'s word for it.
            case ("allow_other", nil):
                arguments.append("--allow-other")
            case (let name, nil) where MountRestriction(rawValue: name) != nil:
                arguments += ["--restrict", name]
            case (let name, _) where generic.contains(name) || name.hasPrefix("x-") || name.hasPrefix("comment"):
                continue
            default:
                // What follows the name may be a secret, and so may what follows a comma.
                let isName = parts[0].utf8.allSatisfy { (0x61...0x7a).contains($0) || $0 == 0x2d || $0 == 0x5f }
                throw ValidationError(
                    "Unknown mount option\(isName ? " '\(parts[0])'" : ""). Known are ttl=, scope=, signal=, no-default-signals, on-expiry=, no-attribution, activity=, ignore-command=, allow-other, log=, shared-backing, no-passthrough, foreground, redis=, redis-file=, redis-ca=, redis-prefix=, town-name=, share and runtime-ids=."
                )
            }
        }
        return arguments
    }
}

/// What a mount forbids, by mount(8)'s words.
enum MountRestriction: String, ExpressibleByArgument {
    case readOnly = "ro"
    case noSetID = "nosuid"
    case noDevices = "nodev"
    case noPrograms = "noexec"

    /// mount(2)'s flag.
    var flag: UInt {
        switch self {
        case .readOnly: UInt(MS_RDONLY)
        case .noSetID: UInt(MS_NOSUID)
        case .noDevices: UInt(MS_NODEV)
        case .noPrograms: UInt(MS_NOEXEC)
        }
    }
}

extension Town.Expiry: ExpressibleByArgument {}
extension Town.Activity: ExpressibleByArgument {}

extension Duration {
    /// Whole nanoseconds.
    ///
    /// A duration of at most 100 years has fewer than an Int64 holds.
    fileprivate var nanoseconds: Int64 {
        components.seconds * 1_000_000_000 + components.attoseconds / 1_000_000_000
    }
}
