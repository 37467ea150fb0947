import ArgumentParser
import CLinux
import Daemon
import Glibc

/// `pulsefs keeper`, which only `pulsefs mount` starts.
struct KeeperCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "keeper", abstract: "Own a mount (started by 'pulsefs mount').", shouldDisplay: false)

    @OptionGroup var options: MountOptions
    @Option(help: "The pid of a worker whose keeper has died.") var adopt: Int32?
    @Option(help: "How many mounts over directories it has handed over.") var mounts = 0
    @Flag(help: "Start that keeper in another process, and end.") var start = false
    @Argument var town: String

    func run() throws {
        if let adopt, start { try KeeperProcess.startAdopting(adopt, of: town, mounts: mounts, options: options) }
        if let adopt { try KeeperProcess.runAdopting(adopt, of: town, mounts: mounts, options: options) }
        try KeeperProcess.run(town, options: options)
    }
}

/// `pulsefs worker`, which only a keeper starts.
struct WorkerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "worker", abstract: "Serve a mount (started by the keeper).", shouldDisplay: false)

    @OptionGroup var options: MountOptions
    @Flag(help: "Wait until the worker that serves has died.") var standby = false
    @Argument var town: String

    func run() throws {
        guard fcntl(InheritedDescriptor.connection, F_GETFD) != -1 else {
            throw Failure("'pulsefs mount' starts 'pulsefs worker'; do not start it by hand.", .usage)
        }
        clinux_name_this_thread(standby ? "pulsefs-standby" : "pulsefs-worker")
        try Worker(
            serving: town, options: options, isStandby: standby, version: PulseFS.version, log: Log.logger("worker")
        ).run()
    }
}
