import CLinux
import Glibc
import Linux
import Logging
import Synchronization
import SystemPackage
import TownFS

/// Replacing the worker, the program, and the keeper itself.
extension Keeper {
    /// Sent by `pulsefs upgrade`, whose program is to serve.
    package static let upgradeSignal = SIGUSR2
    static let signalNumbers = [SIGTERM, SIGINT, SIGHUP, upgradeSignal]

    // MARK: Replacing the keeper

    /// Becomes the keeper of a mounted town, in place of one that has died.
    ///
    /// Takes the descriptors of `InheritedDescriptor`.
    ///
    /// - Parameter worker: Its pid.
    /// - Returns: nil if the town is not mounted any more.
    package static func adopt(_ town: String, worker: pid_t, options: MountOptions, log: Logger) throws -> Keeper? {
        func take(_ number: CInt) -> OwnedDescriptor { OwnedDescriptor(takingOwnershipOf: number) }
        // Opened before the mount is looked up: a later unmount is noticed.
        let mountTable = try OwnedDescriptor(opening: "/proc/self/mountinfo", in: AT_FDCWD, O_RDONLY)
        guard let entry = try MountTable().town(at: town) else { return nil }
        let secret = options.mirror.inheritedSecret(InheritedDescriptor.secret)
        let state = try SharedMemory(takingOwnershipOf: take(InheritedDescriptor.state))
        let inheritance = Inheritance(
            town: town, options: options, connection: InheritedDescriptor.connection, root: InheritedDescriptor.root,
            journal: InheritedDescriptor.journal, state: state.descriptor,
            workersStore: SharedDescriptor(take(InheritedDescriptor.workersStore)),
            lock: SharedDescriptor(take(InheritedDescriptor.lock)),
            secret: secret?.descriptor.rawValue, channel: nil)
        return Keeper(
            log: log, entry: entry, backing: BackingTree(takingOwnershipOf: take(InheritedDescriptor.root)),
            signalMounts: nil, journal: try Journal(takingOwnershipOf: take(InheritedDescriptor.journal)), state: state,
            connection: take(InheritedDescriptor.connection), inheritance: inheritance, secret: secret,
            store: take(InheritedDescriptor.store),
            worker: try WorkerProcess(
                adopting: worker, control: SharedDescriptor(take(InheritedDescriptor.control))),
            signals: try OwnedDescriptor(blocking: signalNumbers), mountTable: mountTable, superblock: Mutex(nil),
            probe: try Probe(), isAdopted: true)
    }

    // MARK: Replacing the worker

    /// Lets the standby go on where the worker has died.
    ///
    /// The worker is reaped, so none of its threads reads a request any more.
    ///
    /// - Parameter status: The worker's, as in `ChildProcess.wait`.
    /// - Returns: False if it cannot be replaced.
    mutating func replaceWorker(_ status: Int32?) -> Bool {
        let start = ContinuousClock.now
        // The end of the connection ends the worker.
        guard status != 0, !KernelMount.hasEnded(connection.rawValue), SharedState.canBeTakenOver(state) else {
            return false
        }
        deaths = deaths.filter { start - $0 < Self.deathPeriod } + (isUpgrading ? [] : [start])
        guard deaths.count < Self.mostDeaths else {
            log.error(
                "the worker has died \(deaths.count) times in \(Self.deathPeriod)", metadata: ["town": "\(entry.town)"])
            return false
        }
        guard let successor = readyStandby() else { return false }
        keepDescriptors()
        successor.serve(inheriting: kept)
        log.log(
            level: isUpgrading ? .info : .error,
            isUpgrading ? "another program serves" : "the worker ended unexpectedly; another one takes over",
            metadata: [
                "status": "\(status.map(String.init) ?? "unknown")", "town": "\(entry.town)",
                "worker": "\(successor.pid)",
            ])
        worker = successor
        if isUpgrading {
            replaceProgram()
        }
        startStandby()
        return true
    }

    /// The standby, or one that is started now.
    private func readyStandby() -> WorkerProcess? {
        if let standby, standby.waitUntilReady() { return standby }
        guard let other = try? WorkerProcess(inheritance, isStandby: true, program: program) else { return nil }
        return other.waitUntilReady() ? other : nil
    }

    // MARK: Upgrading

    /// Has the program of a process, which `pulsefs upgrade` runs, serve from now on.
    ///
    /// Its worker checks first that it can read the state. Then it takes over as from a worker that has died.
    mutating func upgrade(to sender: pid_t) {
        do throws(Errno) {
            guard signalMounts == nil, SharedState.canBeTakenOver(state) else { throw .notSupported }
            let other = try ProcFS.link("/proc/\(sender)/exe")
            let successor = try WorkerProcess(inheritance, isStandby: true, program: other)
            guard successor.waitUntilReady() else {
                successor.dismiss()
                throw .execFormatError
            }
            log.info("upgrading", metadata: ["town": "\(entry.town)", "program": "\(other)"])
            standby?.dismiss()
            standby = successor
            program = other
            isUpgrading = true
            worker.kill()
        } catch {
            log.error("cannot upgrade: \(error)", metadata: ["town": "\(entry.town)"])
        }
    }

    /// Becomes the keeper of the new program, in the same process.
    ///
    /// If it cannot be executed, this process ends, and the new worker starts another keeper.
    private borrowing func replaceProgram() -> Never {
        do throws(Errno) {
            try ChildProcess.execute(
                program, inheritance.keeperArguments(adopting: worker.pid),
                descriptors: inheritance.keeperDescriptors(
                    control: worker.control.rawValue, store: store.rawValue))
        } catch {
            log.error("cannot execute \(program): \(error)")
            _exit(ExitStatus.failed.rawValue)
        }
    }

    /// Keeps and drops what the worker has sent.
    mutating func keepDescriptors() {
        while let (key, descriptor) = DescriptorStore.receive(from: store.rawValue) { kept[key] = descriptor }
    }

    mutating func startStandby() {
        standby = nil
        guard SharedState.canBeTakenOver(state), signalMounts == nil else { return }
        do throws(Errno) {
            standby = try WorkerProcess(inheritance, isStandby: true, program: program)
        } catch {
            log.warning("cannot start a standby: \(error)", metadata: ["town": "\(entry.town)"])
        }
    }

    /// Starts a standby after one has died.
    ///
    /// If they die often, the next one is started when the worker dies.
    mutating func restartStandby() {
        guard let status = standby?.wait() else { return }
        log.warning("the standby ended unexpectedly", metadata: ["status": "\(status)", "town": "\(entry.town)"])
        standby = nil
        let now = ContinuousClock.now
        standbyDeaths = standbyDeaths.filter { now - $0 < Self.deathPeriod } + [now]
        if standbyDeaths.count < Self.mostDeaths { startStandby() }
    }

    private static let deathPeriod: Duration = .seconds(60)
    /// So many deaths in `deathPeriod` end the mount.
    ///
    /// Tests that kill more often raise it (`PULSEFS_DEATH_LIMIT`).
    private static let mostDeaths = getenv("PULSEFS_DEATH_LIMIT").flatMap { Int(String(cString: $0)) } ?? 5
}
