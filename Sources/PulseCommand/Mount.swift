import ArgumentParser
import Daemon
import Fuse
import Glibc
import Linux
import SystemPackage
import TownFS

struct Mount: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Mount pulsefs over a town.",
        discussion: """
            Returns when the town answers. The directory stays where it is, and its files are plain files again when it \
            is unmounted. Works for root, and for other users through fusermount3.
            """)

    @Argument(help: ArgumentHelp("The directory to mount over.", valueName: "town"), completion: .directory)
    var town: String

    @OptionGroup var options: MountOptions

    @Option(
        name: .customShort("o"),
        help: ArgumentHelp(
            "The options above, as in fstab: ttl=90s,signal=GLOB,on-expiry=absent. Repeatable.",
            valueName: "opt,opt"))
    var mountOptions: [String] = []

    func validate() throws {
        _ = try MountOptions.arguments(fromMountOptions: mountOptions)
    }

    mutating func run() throws {
        guard mountOptions.isEmpty else {
            // The parser knows the type of each option.
            let words = try MountOptions.arguments(fromMountOptions: mountOptions)
            let log = options.log.map { ["--log", $0] } ?? []
            let given = options.arguments + log + (options.foreground ? ["--foreground"] : [])
            var command = try PulseFS.parseAsRoot(["mount"] + given + words + ["--", town])
            return try command.run()
        }
        let secret = try options.mirror.removeSecret(for: TownPath(town).path)
        if options.foreground {
            let kept = ServiceManager.takeDescriptors()
            try KeeperProcess.resume(TownPath(town).path, from: kept, options: options, secret: secret)
        }
        let place = try TownPath(town)
        if let mount = place.mount { try replaceIfDead(mount) }
        do throws(Errno) {
            // Mounts over directories of signal files whose main mount is gone.
            try KernelMount.detach(MountTable().orphans(of: place.path))
        } catch {
            throw Failure("\(place.path) has dead mounts that cannot be detached: \(error)")
        }
        var status = FileStatus()
        guard stat(place.path, &status) == 0 else { throw Failure("there is no town at \(town): \(Errno.current)") }
        guard status.st_mode & S_IFMT == S_IFDIR else { throw Failure("\(town) is not a directory.") }
        guard place.path != "/" else { throw Failure("the root directory cannot be a town.") }
        try KernelMount.check()
        if options.scope == .signals, options.activity == .beat {
            PulseFS.printError(
                "--scope=signals sees no work outside the directories of signal files, so --activity=beat refreshes no heartbeat for it."
            )
        }
        if options.foreground {
            try KeeperProcess.runInForeground(place.path, options: options, secret: secret) {
                PulseFS.printError($0.message)
            }
        } else {
            try KeeperProcess.spawn(place.path, options: options, secret: secret)
        }
    }

    /// Fails if the town is mounted.
    ///
    /// A mount whose keeper and worker are dead is detached instead.
    private func replaceIfDead(_ mount: MountInfo) throws {
        let detail: String
        switch try TownAnswer.status(of: mount) {
        case .dead:
            do throws(Errno) {
                return try KernelMount.detach(MountTable().signalMounts(of: mount) + [mount])
            } catch {
                throw Failure("\(mount.town) has a dead mount that cannot be detached: \(error)")
            }
        case .value(let status):
            detail = status.map { " by keeper \($0.keeperPid), since \($0.mountedAt)" } ?? ""
        case .denied: detail = mount.user.map { " by the user with id \($0)" } ?? ""
        case .silent: detail = " and does not answer. 'pulsefs unmount --lazy \(mount.town)' detaches it"
        case .failed(let error): detail = " and answers with an error: \(error)"
        }
        throw Failure("\(mount.town) is already mounted\(detail).", .alreadyMounted)
    }
}
