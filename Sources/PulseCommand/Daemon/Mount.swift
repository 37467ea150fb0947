import ArgumentParser
import CLinux
import Fuse
import Glibc
import Linux
import SystemPackage

/// `pulsefs mount`.
struct Mount: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Lay pulsefs over a town.",
        discussion: """
            Returns when the town answers. The directory stays where it is; whatever happens to pulsefs, its files are \
            plain files again. Works for root, and for ordinary users through fusermount3.
            """)

    @Argument(help: ArgumentHelp("The directory to mount over.", valueName: "town"), completion: .directory)
    var town: String

    @OptionGroup var options: MountOptions

    @Option(
        name: .customShort("o"),
        help: ArgumentHelp(
            "The options above as in fstab: ttl=90s,signal=GLOB,on-expiry=absent. May be given several times.",
            valueName: "opt,opt"))
    var mountOptions: [String] = []

    // What the keeper says: `0` when the mount answers, else an exit status, a space, and what is wrong.

    static func encode(_ outcome: Result<Void, Failure>) -> String {
        switch outcome {
        case .success: "0"
        case .failure(let failure): "\(failure.status.rawValue) \(failure.message)"
        }
    }

    private static func decode(_ words: String) -> Result<Void, Failure> {
        let parts = words.split(separator: " ", maxSplits: 1)
        guard let status = parts.first.flatMap({ Int32($0) }).flatMap(ExitStatus.init) else {
            return .failure(Failure("the keeper ended before the town was mounted; see the log."))
        }
        return status == .success ? .success(()) : .failure(Failure(String(parts.last ?? ""), status))
    }

    func validate() throws {
        _ = try MountOptions.arguments(fromMountOptions: mountOptions)
    }

    mutating func run() throws {
        guard mountOptions.isEmpty else {
            // Once more through the parser, which knows what each option wants.
            let words = try MountOptions.arguments(fromMountOptions: mountOptions)
            var command = try PulseFS.parseAsRoot(["mount"] + options.allArguments + words + ["--", town])
            return try command.run()
        }
        let place = try TownPath(town)
        var status = FileStatus()
        if let mount = place.mount { try replaceIfDead(mount) }
        try clearOrphans(of: place.path)
        guard stat(place.path, &status) == 0 else { throw Failure("there is no town at \(town): \(Errno.current)") }
        guard status.st_mode & S_IFMT == S_IFDIR else { throw Failure("\(town) is not a directory.") }
        guard place.path != "/" else { throw Failure("the root directory cannot be a town.") }
        try KernelMount.check()
        if options.scope == .signals, options.activity == .beat {
            PulseFS.printError(
                "with --scope=signals, work outside the directories of signal files is not seen: --activity=beat refreshes no heartbeat by it."
            )
        }
        let secret = try options.mirror.takeSecret(for: place.path)
        if options.foreground {
            try stay(place.path, secret)
        } else {
            try startKeeper(place.path, secret)
        }
    }

    /// Refuses where a town is mounted already, and clears away what a dead keeper and worker have left.
    private func replaceIfDead(_ mount: MountEntry) throws {
        switch try StatusFile.read(of: mount.town) {
        case .value(let text):
            let first = StatusFile.decode(text).map { " by keeper \($0.keeperPid), since \($0.mountedAt)" } ?? ""
            throw Failure("\(mount.town) is already mounted\(first).", .alreadyMounted)
        case .denied:
            let user = mount.user.map { " by the user with id \($0)" } ?? ""
            throw Failure("\(mount.town) is already mounted\(user).", .alreadyMounted)
        case .silent:
            throw Failure(
                "\(mount.town) is already mounted, and does not answer. 'pulsefs unmount --lazy \(mount.town)' takes it away.",
                .alreadyMounted)
        case .failed(let error):
            throw Failure("\(mount.town) is already mounted, and answers with an error: \(error).", .alreadyMounted)
        case .dead:
            do throws(Errno) {
                try KernelMount.detachAll(of: mount)
            } catch {
                throw Failure("\(mount.town) has a dead mount that cannot be taken away: \(error)")
            }
        }
    }

    /// Clears away what was mounted over directories of signal files when even `.pulse` has gone.
    private func clearOrphans(of town: String) throws {
        do throws(Errno) {
            try KernelMount.detach(MountTable().orphans(of: town))
        } catch {
            throw Failure("\(town) has dead mounts that cannot be taken away: \(error)")
        }
    }

    private func startKeeper(_ path: String, _ secret: RedisSecret?) throws {
        let log = try Log.open(options.log, for: path)
        let pipe = try DescriptorPair.pipe()
        let report = pipe.first
        let keepersEnd = pipe.second
        _ = try ChildProcess.spawn(
            "/proc/self/exe", ["pulsefs", "keeper"] + options.arguments + ["--", path],
            descriptors: [.null, .null, .inherited(log.rawValue), .inherited(keepersEnd.rawValue)]
                + (secret.map { [.inherited($0.descriptor.rawValue)] } ?? []),
            isDetached: true, environment: ChildProcess.dyingAtOnce)
        // Ours has to go, or the end of the keeper's would never be seen.
        _ = consume keepersEnd
        try Self.decode(report.readToEnd()).get()
    }

    private func stay(_ path: String, _ secret: RedisSecret?) throws -> Never {
        let log = Log.logger("keeper")
        let keeper = try Keeper.mount(over: path, options: options, secret: secret, log: log)
        let status = keeper.run { outcome in
            switch outcome {
            case .success: ServiceManager.notify("READY=1\nSTATUS=serving \(path)")
            case .failure(let failure): PulseFS.printError(failure.message)
            }
        }
        ServiceManager.notify("STOPPING=1")
        Glibc.exit(status.rawValue)
    }
}

extension MountOptions {
    /// The arguments that say the same to `pulsefs mount`.
    var allArguments: [String] {
        arguments + (log.map { ["--log", $0] } ?? []) + (foreground ? ["--foreground"] : [])
    }
}
