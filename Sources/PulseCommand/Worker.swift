import ArgumentParser
import CLinux
import Fuse
import Glibc
import Liveness
import Logging
import Synchronization
import SystemPackage
import TownFS

/// The process that serves the file system, with descriptors that its keeper has opened.
final class Worker: Sendable {
    private let town: Town
    private let path: String
    private let log: Logger
    private let hasEnded = Mutex(false)

    /// Takes over the descriptors of `Keeper.WorkerDescriptor`.
    init(serving path: String, options: MountOptions, log: Logger) throws {
        self.path = path
        self.log = log
        let journal = try Journal(
            takingOwnershipOf: OwnedDescriptor(takingOwnershipOf: Keeper.WorkerDescriptor.journal))
        town = try Town(
            takingOwnershipOf: OwnedDescriptor(takingOwnershipOf: Keeper.WorkerDescriptor.root), journal: journal,
            configuration: options.configuration(of: path), log: log)
    }

    /// Serves until the mount ends or the keeper says so; then writes documents down and ends the process.
    func run() throws -> Never {
        // Modes come from the kernel with the caller's mask applied.
        umask(0)
        Self.raiseDescriptorLimit()
        let describe = Self.description()
        let fileSystem = try TownFileSystem(town, describe: describe)
        let session = try Session(takingOwnershipOf: Keeper.WorkerDescriptor.connection, serving: fileSystem)
        _ = try Thread(named: "lifeline") { self.watchKeeper() }
        try session.run(threads: Self.threadCount)
        end()
    }

    /// Enough that a slow fsync or two do not keep others waiting, few enough to stay small.
    private static var threadCount: Int { max(4, min(8, sysconf(Int32(_SC_NPROCESSORS_ONLN)) * 2)) }

    private static func raiseDescriptorLimit() {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        limit.rlim_cur = limit.rlim_max
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }

    /// Waits for the keeper's word, or its death: then nobody else is left to take the mount away.
    private func watchKeeper() {
        var word: UInt8 = 0
        let count = (try? retryingInterrupts { read(Keeper.WorkerDescriptor.lifeline, &word, 1) }) ?? 0
        if count == 0 {
            log.error("the keeper has died; ending the mount")
            do {
                if let entry = try MountTable().town(at: path) { try KernelMount.detach(entry) }
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
        log.info("unmounted", metadata: ["town": "\(path)"])
        // Without destructors: other threads may still be serving what was open when the mount was detached.
        _exit(lost == 0 ? ExitStatus.success.rawValue : ExitStatus.failed.rawValue)
    }

    private static func description() -> @Sendable (TownFileSystem.Snapshot) -> TownStatus {
        let start = ContinuousClock.now
        let mountedAt = WallTime.now.rfc3339
        let keeper = getppid()
        return { snapshot in
            TownStatus(
                version: PulseFS.version, town: snapshot.configuration.path, keeperPid: keeper, workerPid: getpid(),
                mountedAt: mountedAt, uptimeSeconds: (ContinuousClock.now - start).components.seconds,
                ttlSeconds: snapshot.configuration.ttl / .seconds(1), onExpiry: snapshot.configuration.expiry.rawValue,
                signalFiles: .init(snapshot.counts.signals), runtimes: .init(snapshot.counts.runtimes),
                documents: snapshot.documents, fileSystem: snapshot.fileSystem)
        }
    }
}

extension TownStatus.Tally {
    fileprivate init(_ tally: LivenessTable.Counts.Tally) {
        self.init(alive: tally.alive, expired: tally.expired)
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

/// `pulsefs keeper`: started by `pulsefs mount`, never by a person.
struct KeeperCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "keeper", abstract: "Own a mount (started by 'pulsefs mount').", shouldDisplay: false)

    /// Where `pulsefs mount` waits to hear: nothing but the end when all is well, else why not.
    static let report: CInt = 3

    @OptionGroup var options: MountOptions
    @Argument var town: String

    func run() throws {
        guard fcntl(Self.report, F_GETFD) != -1 else {
            throw Failure("'pulsefs keeper' is started by 'pulsefs mount', not by hand.", .usage)
        }
        // Started by way of /proc/self/exe, it would be called "exe" in ps(1).
        clinux_name_this_thread("pulsefs-keeper")
        let report = OwnedDescriptor(takingOwnershipOf: Self.report)
        func say(_ outcome: Result<Void, Failure>) {
            let words = Mount.encode(outcome)
            _ = words.utf8CString.withUnsafeBytes { write(report.rawValue, $0.baseAddress, $0.count - 1) }
        }
        let keeper: Keeper
        do {
            keeper = try Keeper.mount(over: town, options: options, log: Log.logger("keeper"))
        } catch {
            let failure = error as? Failure ?? Failure("\(error)")
            say(.failure(failure))
            Glibc.exit(failure.status.rawValue)
        }
        let status = keeper.run { outcome in
            say(outcome)
            // Whoever waits for the end of this, waits no longer.
            close(Self.report)
        }
        Glibc.exit(status.rawValue)
    }
}
