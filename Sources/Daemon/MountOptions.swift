import ArgumentParser
import CLinux
import Glibc
import Linux
import Liveness
import TownFS

/// The options of a mount: on the command line, in `-o`, and as arguments of keeper and worker.
package struct MountOptions: ParsableArguments {
    package init() {}

    @Option(
        help: ArgumentHelp("How long a touch proves life: 500ms, 90s, 5m, 1h.", valueName: "duration"),
        transform: { try Duration(spelled: $0) })
    package var ttl: Duration = Touch.defaultTTL

    @Option(
        help:
            "What to mount: town, the whole town; or signals, one mount for each directory that can hold signal files, so that all other work in the town bypasses pulsefs."
    )
    package var scope = MountScope.town

    @Option(
        help: ArgumentHelp(
            "Another signal file, as a path relative to the town: * ? [a-z] within a name, ** for directories. Repeatable.",
            valueName: "glob"))
    package var signal: [String] = []

    @Option(
        help: ArgumentHelp(
            "What is known of a tool: its signal files, and how its processes are named. A built-in preset ('pulsefs preset list') or a file, instead of the preset gastown. Repeatable; the first signal that matches a file decides.",
            valueName: "preset"),
        completion: .list(BuiltInPreset.all.map(\.name)),
        transform: { try PresetSource.preset($0) })
    package var preset: [Preset] = []

    @Flag(help: "Use only the signal files given with --signal, not those of Gas Town.")
    package var noDefaultSignals = false

    @Option(
        help:
            "What tools read from an expired signal file: keep, the last document; or absent, no file."
    )
    package var onExpiry = Town.Expiry.keep

    @Flag(
        help:
            "Do not examine processes: touches are attributed by path and document only, activity is not counted, and exits are not noticed."
    )
    package var noAttribution = false

    @Option(
        help:
            "Whether work on ordinary files proves life: off, no; observe, in the answers of pulsefs; or beat, also in the heartbeat files that tools read."
    )
    package var activity = Town.Activity.observe

    @Option(
        help: ArgumentHelp(
            "The name of a program whose work on files does not count as activity, such as an indexer. Repeatable.",
            valueName: "name"))
    package var ignoreCommand: [String] = []

    @Option(
        help: ArgumentHelp(
            "A younger process is a tool, not an agent: its end proves nothing. 0s: none is.", valueName: "duration"),
        transform: { $0 == "0s" ? .zero : try Duration(spelled: $0) })
    package var minAgentAge: Duration = .seconds(30)

    @Flag(
        help:
            "Other processes change files of the town without going through the mount: cache nothing for more than a second, and write documents back within a second."
    )
    package var sharedBacking = false

    @Flag(
        help:
            "Do not use kernel passthrough: every read and write goes through pulsefs, so that work on open files counts as activity."
    )
    package var noPassthrough = false

    @Flag(
        help: ArgumentHelp(
            "Allow access by other users, as far as file permissions let them. Files that they make belong to them if root mounts. For ordinary users /etc/fuse.conf must allow it."
        ))
    package var allowOther = false

    @Option(
        help: ArgumentHelp(
            "Where keeper and worker log. By default in /var/log/pulsefs for root, otherwise in ~/.local/state/pulsefs.",
            valueName: "file"))
    package var log: String?

    @OptionGroup(title: "Mirror in Redis")
    package var mirror: MirrorOptions

    @Option(help: .hidden)
    package var restrict: [MountRestriction] = []

    @Flag(help: "Stay in the foreground and log to standard error. Notifies systemd when the town is ready.")
    package var foreground = false

    /// - Throws: a sentence for the user.
    package func validate() throws {
        _ = try patterns()
        if scope == .signals {
            let patterns = try signals().map(\.pattern)
            if patterns.isEmpty { throw ValidationError("--scope=signals needs a signal pattern.") }
            for pattern in patterns {
                guard let objection = SignalPatterns.objectionToCovering(pattern) else { continue }
                throw ValidationError("--scope=signals cannot use the signal pattern '\(pattern)': \(objection).")
            }
        }
        if noAttribution, activity == .beat {
            throw ValidationError("--activity=beat needs attribution, which --no-attribution turns off.")
        }
        for name in ignoreCommand where name.isEmpty || name.contains("/") {
            throw ValidationError("--ignore-command takes the name of a program, not '\(name)'.")
        }
    }

    /// Those given, otherwise Gas Town's.
    private func presets() throws -> [Preset] {
        guard preset.isEmpty else { return preset }
        var standard = try BuiltInPreset.standard.preset
        if noDefaultSignals { standard.signals = [] }
        return [standard]
    }

    private func signals() throws -> [Signal] {
        // Those of the command line come first: the first rule that matches a path decides.
        try signal.map { text in
            do throws(Signal.Invalid) {
                return try Signal(text)
            } catch {
                throw ValidationError("The signal '\(text)' cannot be used: \(error).")
            }
        } + presets().flatMap(\.signals)
    }

    func patterns() throws -> SignalPatterns {
        let signals = try signals()
        do throws(SignalPatterns.Invalid) {
            return try SignalPatterns(signals)
        } catch {
            throw ValidationError("\(error)")
        }
    }

    func configuration(of town: String) throws -> Town.Configuration {
        var configuration = Town.Configuration(path: town, patterns: try patterns())
        configuration.identities = IdentityRules(try presets())
        configuration.ttl = ttl
        configuration.expiry = onExpiry
        configuration.looksAtCallers = !noAttribution
        configuration.activity = activity
        configuration.minimumAgentAge = minAgentAge
        configuration.ignoredCommands = Town.Configuration.commonIndexers.union(ignoreCommand)
        configuration.host = Host.name
        configuration.sharesSignals = mirror.share
        // Files in a mounted directory may have other names (hard links) outside.
        configuration.sharesBacking = sharedBacking || scope == .signals
        configuration.usesPassthrough = !noPassthrough
        // Without root's rights, files made through an id-mapped mount could not belong to the mapped user.
        configuration.allowsIDMapping = allowOther && geteuid() == 0
        if sharedBacking { configuration.writebackDelay = .seconds(1) }
        configuration.isReadOnly = restrict.contains(.readOnly)
        return configuration
    }

    /// The same options as arguments of the worker.
    package var arguments: [String] {
        var arguments = ["--ttl", ttl.spelled, "--on-expiry", onExpiry.rawValue]
        if scope != .town { arguments += ["--scope", scope.rawValue] }
        for glob in signal { arguments += ["--signal", glob] }
        for preset in preset { arguments += ["--preset", PresetText.compact(preset)] }
        if noAttribution { arguments.append("--no-attribution") }
        if activity != .observe { arguments += ["--activity", activity.rawValue] }
        for name in ignoreCommand { arguments += ["--ignore-command", name] }
        if minAgentAge != .seconds(30) { arguments += ["--min-agent-age", minAgentAge.spelled] }
        if noDefaultSignals { arguments.append("--no-default-signals") }
        if sharedBacking { arguments.append("--shared-backing") }
        if noPassthrough { arguments.append("--no-passthrough") }
        if allowOther { arguments.append("--allow-other") }
        for restriction in restrict { arguments += ["--restrict", restriction.rawValue] }
        return arguments + mirror.arguments
    }

    // MARK: -o

    /// Options of mount(8) and fstab(5) that are not for the file system.
    private static let generic: Set<String> = [
        "defaults", "rw", "auto", "noauto", "user", "nouser", "users", "nofail", "_netdev", "exec", "suid", "dev",
        "relatime", "noatime", "strictatime", "async", "owner", "group", "silent",
    ]

    /// Our own options, with `=` where there is a value.
    private static let known = [
        "ttl=", "scope=", "signal=", "preset=", "no-default-signals", "on-expiry=", "no-attribution", "activity=",
        "ignore-command=", "min-agent-age=", "allow-other", "log=", "shared-backing", "no-passthrough", "foreground",
        "redis=", "redis-file=", "redis-ca=", "redis-prefix=", "town-name=", "share", "runtime-ids=",
    ]

    /// Converts the words of `-o` to long options: `ttl=90s` to `--ttl 90s`.
    package static func arguments(fromMountOptions lists: [String]) throws -> [String] {
        try lists.flatMap { $0.split(separator: ",") }.flatMap { word -> [String] in
            let parts = word.split(separator: "=", maxSplits: 1).map(String.init)
            let (name, value) = (parts.first ?? "", parts.dropFirst().first)
            if let value, known.contains("\(name)=") { return ["--\(name)", value] }
            if value == nil, known.contains(name) { return ["--\(name)"] }
            // The spelling of mount(8).
            if word == "allow_other" { return ["--allow-other"] }
            if value == nil, MountRestriction(rawValue: name) != nil { return ["--restrict", name] }
            if generic.contains(name) || name.hasPrefix("x-") || name.hasPrefix("comment") { return [] }
            // Never print a value: it may be a secret, and so may the rest of a word after a comma.
            let isName = name.utf8.allSatisfy { (0x61...0x7a).contains($0) || $0 == 0x2d || $0 == 0x5f }
            let list = known.dropLast().joined(separator: ", ") + " and \(known[known.count - 1])"
            throw ValidationError("Unknown mount option\(isName ? " '\(name)'" : ""). Known are \(list).")
        }
    }
}

/// Which directories are mounted.
package enum MountScope: String, ExpressibleByArgument, CaseIterable {
    /// The whole town, by one mount.
    case town
    /// `.pulse` and each directory that can hold signal files, by one mount each.
    case signals
}

/// Restrictions of a mount, in the words of mount(8).
package enum MountRestriction: String, ExpressibleByArgument, CaseIterable {
    case readOnly = "ro"
    case noSetID = "nosuid"
    case noDevices = "nodev"
    case noPrograms = "noexec"

    /// Its flags for fsmount(2), and in statvfs(3), where they have the values of mount(2).
    var flags: (fsmount: UInt32, statvfs: UInt) {
        switch self {
        case .readOnly: (UInt32(clinux_mount_attr_rdonly), UInt(MS_RDONLY))
        case .noSetID: (UInt32(clinux_mount_attr_nosuid), UInt(MS_NOSUID))
        case .noDevices: (UInt32(clinux_mount_attr_nodev), UInt(MS_NODEV))
        case .noPrograms: (UInt32(clinux_mount_attr_noexec), UInt(MS_NOEXEC))
        }
    }
}

extension Town.Expiry: ExpressibleByArgument {}
extension Town.Activity: ExpressibleByArgument {}
