import ArgumentParser
import CLinux
import Fuse
import Glibc
import Linux
import Liveness
import LivenessRedis
import Logging
import Synchronization
import SystemPackage
import TownFS

/// The process that serves the file system, with descriptors that its keeper has opened.
final class Worker: Sendable {
    private let town: Town
    private let options: MountOptions
    private let path: String
    private let mount: MountEntry?
    private let mirror: RedisMirror?
    private let log: Logger
    private let hasEnded = Mutex(false)

    /// Takes over the descriptors of `Keeper.WorkerDescriptor`.
    init(serving path: String, options: MountOptions, log: Logger) throws {
        self.path = path
        self.options = options
        self.log = log
        mount = try MountTable().town(at: path)
        Self.raiseLimits()
        Self.reserveDescriptors()
        let journal = try Journal(
            takingOwnershipOf: OwnedDescriptor(takingOwnershipOf: Keeper.WorkerDescriptor.journal))
        mirror = try Self.mirror(options.mirror, of: path, log: log)
        town = try Town(
            takingOwnershipOf: OwnedDescriptor(takingOwnershipOf: Keeper.WorkerDescriptor.root), journal: journal,
            configuration: Self.configuration(options, of: path), log: log, mirror: mirror)
    }

    private static func mirror(_ options: MirrorOptions, of path: String, log: Logger) throws -> RedisMirror? {
        let secret = options.inheritedSecret(Keeper.WorkerDescriptor.secret)
        guard let configuration = try options.configuration(of: path, secret: secret) else { return nil }
        try RedisSecret.keepOutOfCores()
        return try RedisMirror(configuration, log: log)
    }

    /// Serves until the mount ends or the keeper says so; then writes documents down and ends the process.
    func run() throws -> Never {
        umask(0)
        if options.allowOther, geteuid() == 0 {
            do throws(Errno) {
                try Session.prepareToServeOthers()
            } catch {
                throw Failure("cannot serve other users: \(error). It takes CAP_SETPCAP.")
            }
        }
        let describe = description()
        guard options.scope == .town else { return try runCovers(describe) }
        let fileSystem = try TownFileSystem(town, describe: describe)
        let session = try Session(takingOwnershipOf: Keeper.WorkerDescriptor.connection, serving: fileSystem)
        _ = try Thread(named: "lifeline") { self.watchKeeper() }
        try mirror?.start(mirroring: town.liveness, receiver: fileSystem)
        try session.run(threads: Self.threadCount)
        end()
    }

    /// Serves `.pulse`, and what else the keeper mounts for us, until `.pulse` is unmounted.
    private func runCovers(_ describe: @escaping @Sendable (TownFileSystem.Snapshot) -> TownStatus) throws -> Never {
        let server = Mutex<SignalMountServer?>(nil)
        let signalMounts = SignalMounts(of: town) { snapshot in
            var status = describe(snapshot)
            let coverage = server.withLock { $0 }?.coverage
            (status.covered, status.uncovered) = (coverage?.covered ?? [], coverage?.uncovered ?? [])
            return status
        }
        let session = try Session(takingOwnershipOf: Keeper.WorkerDescriptor.connection, serving: signalMounts.pulse)
        let link = KeeperChannel(
            takingOwnershipOf: OwnedDescriptor(takingOwnershipOf: Keeper.WorkerDescriptor.link))
        let started = try SignalMountServer(of: signalMounts, over: link, log: log)
        server.withLock { $0 = started }
        _ = try Thread(named: "lifeline") { self.watchKeeper() }
        try mirror?.start(mirroring: town.liveness, receiver: signalMounts)
        let patterns = try options.patterns()
        _ = try Thread(named: "covers") { started.run(patterns, in: Keeper.WorkerDescriptor.root) }
        try session.run(threads: Self.pulseThreadCount)
        started.end()
        end()
    }

    /// Maximum number of threads of a mount.
    ///
    /// They start on demand. With all but one waiting for disks, the last one serves signal files and `.pulse`.
    private static let threadCount = 64
    /// The same for a mount over `.pulse` alone, where only fsync waits for a disk.
    private static let pulseThreadCount = 4

    /// Raises what limits us to what may be had: clients' open files are ours, and their file sizes.
    private static func raiseLimits() {
        for resource in [RLIMIT_NOFILE, RLIMIT_FSIZE] {
            var limit = rlimit()
            guard getrlimit(__rlimit_resource_t(resource.rawValue), &limit) == 0 else { continue }
            limit.rlim_cur = limit.rlim_max
            setrlimit(__rlimit_resource_t(resource.rawValue), &limit)
        }
    }

    /// Has the kernel make room for as many descriptors as the cache and a busy town may hold.
    ///
    /// It doubles that room when it is needed, and with more than one thread about waits then until all cores have seen it:
    /// 10 to 16 ms, in the middle of somebody's request, seven times until there is room for 8192 (`expand_fdtable` in
    /// fs/file.c). So it is done once, before there are threads. It costs 8 bytes a descriptor.
    private static func reserveDescriptors() {
        let last = fcntl(Keeper.WorkerDescriptor.root, F_DUPFD_CLOEXEC, 8191)
        // Not with a lower limit: then there will not be as many either.
        if last >= 0 { close(last) }
    }

    /// The configuration, with no more descriptors in the cache than leaves most of them to clients.
    private static func configuration(_ options: MountOptions, of path: String) throws -> Town.Configuration {
        var configuration = try options.configuration(of: path)
        var limit = rlimit()
        if getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 {
            configuration.descriptorCacheCapacity = min(
                configuration.descriptorCacheCapacity, Int(clamping: limit.rlim_cur) / 4)
            configuration.callerCapacity = min(configuration.callerCapacity, Int(clamping: limit.rlim_cur) / 8)
        }
        return configuration
    }

    /// Waits for the keeper's word, or its death: then nobody else is left to take the mount away.
    private func watchKeeper() {
        var word: UInt8 = 0
        let count = (try? retryingInterrupts { read(Keeper.WorkerDescriptor.controlSocket, &word, 1) }) ?? 0
        if count == 0 {
            log.error("the keeper has died; ending the mount")
            do {
                if let mount { try KernelMount.detachAll(of: mount) }
            } catch {
                log.error("cannot detach \(path): \(error)")
            }
        }
        end()
    }

    private func end() -> Never {
        let isFirst = hasEnded.withLock { hasEnded in
            defer { hasEnded = true }
            return !hasEnded
        }
        // The other thread that came here ends the process.
        while !isFirst { pause() }
        let lost = town.close()
        // What it has not sent by then, the server would have believed for some seconds more at best.
        mirror?.close(within: .milliseconds(300))
        log.info("unmounted", metadata: ["town": "\(path)"])
        // Without destructors: other threads may still be serving what was open when the mount was detached.
        _exit(lost == 0 ? ExitStatus.success.rawValue : ExitStatus.failed.rawValue)
    }

    private func description() -> @Sendable (TownFileSystem.Snapshot) -> TownStatus {
        let start = ContinuousClock.now
        let mountedAt = WallTime.now.rfc3339
        let keeper = getppid()
        return { [scope = options.scope] snapshot in
            var status = TownStatus(
                version: PulseFS.version, town: snapshot.configuration.path, keeperPid: keeper, workerPid: getpid(),
                mountedAt: mountedAt, uptimeSeconds: (ContinuousClock.now - start).components.seconds,
                ttlSeconds: snapshot.configuration.ttl / .seconds(1), onExpiry: snapshot.configuration.expiry.rawValue,
                signalFiles: .init(snapshot.counts.signals), runtimes: .init(runtimes: snapshot.counts.runtimes),
                documents: snapshot.documents, fileSystem: snapshot.fileSystem, activity: snapshot.activity,
                rootProcesses: snapshot.rootProcesses, mirror: snapshot.mirror)
            status.scope = scope.rawValue
            return status
        }
    }
}

extension TownStatus.Tally {
    fileprivate init(_ tally: LivenessTable.Counts.Tally) {
        self.init(alive: tally.alive, expired: tally.expired)
    }

    fileprivate init(runtimes tally: LivenessTable.Counts.Tally) {
        self.init(alive: tally.alive, expired: tally.expired, exited: tally.exited)
    }
}

/// `pulsefs worker`: started by the keeper, never by a person.
struct WorkerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "worker", abstract: "Serve a mount (started by the keeper).", shouldDisplay: false)

    @OptionGroup var options: MountOptions
    @Argument var town: String

    func run() throws {
        guard fcntl(Keeper.WorkerDescriptor.connection, F_GETFD) != -1 else {
            throw Failure("'pulsefs worker' is started by 'pulsefs mount', not by hand.", .usage)
        }
        clinux_name_this_thread("pulsefs-worker")
        try Worker(serving: town, options: options, log: Log.logger("worker")).run()
    }
}
