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

    /// The descriptor numbers of a keeper that a worker has started.
    enum AdoptionDescriptor {
        static let connection: CInt = 3
        static let root: CInt = 4
        static let journal: CInt = 5
        static let state: CInt = 6
        static let control: CInt = 7
        static let store: CInt = 8
        static let workersStore: CInt = 9
        static let secret: CInt = 10
    }

    /// Becomes the keeper of a mounted town, in place of one that has died.
    ///
    /// Takes the descriptors of `AdoptionDescriptor`.
    ///
    /// - Parameter worker: Its pid.
    /// - Returns: nil if the town is not mounted any more.
    package static func adopt(_ town: String, worker: pid_t, options: MountOptions, log: Logger) throws -> Keeper? {
        func take(_ number: CInt) -> OwnedDescriptor { OwnedDescriptor(takingOwnershipOf: number) }
        guard let entry = try MountTable().town(at: town) else { return nil }
        let secret = options.mirror.inheritedSecret(AdoptionDescriptor.secret)
        let state = try SharedMemory(takingOwnershipOf: take(AdoptionDescriptor.state))
        let journal = take(AdoptionDescriptor.journal)
        let store = SharedDescriptor(take(AdoptionDescriptor.workersStore))
        let inheritance = WorkerProcess.Inheritance(
            town: town, options: options, connection: AdoptionDescriptor.connection, root: AdoptionDescriptor.root,
            journal: AdoptionDescriptor.journal, state: state.descriptor, store: store,
            secret: secret?.descriptor.rawValue, channel: nil)
        return Keeper(
            log: log, entry: entry, backing: BackingTree(takingOwnershipOf: take(AdoptionDescriptor.root)),
            signalMounts: nil, journal: try Journal(takingOwnershipOf: journal), state: state,
            connection: take(AdoptionDescriptor.connection), inheritance: inheritance, secret: secret,
            store: take(AdoptionDescriptor.store),
            worker: try WorkerProcess(
                adopting: worker, control: SharedDescriptor(take(AdoptionDescriptor.control))),
            signals: try OwnedDescriptor(blocking: signalNumbers),
            mountTable: try OwnedDescriptor(opening: "/proc/self/mountinfo", in: AT_FDCWD, O_RDONLY),
            superblock: Mutex(nil), probe: try Probe(), isAdopted: true)
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
        guard status != 0, !hasConnectionEnded, SharedState.canBeTakenOver(state) else { return false }
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
            isUpgrading = false
            standby = nil
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
    /// Returns if it cannot be executed; then this keeper goes on.
    private borrowing func replaceProgram() {
        typealias Number = AdoptionDescriptor
        var descriptors: [(CInt, as: CInt)] = [
            (connection.rawValue, Number.connection), (backing.rawRoot, Number.root),
            (inheritance.journal, Number.journal), (state.descriptor, Number.state),
            (worker.control.rawValue, Number.control), (store.rawValue, Number.store),
            (inheritance.store.rawValue, Number.workersStore),
        ]
        if let secret { descriptors.append((secret.descriptor.rawValue, Number.secret)) }
        ChildProcess.execute(
            program,
            ["pulsefs", "keeper", "--adopt", "\(worker.pid)"] + inheritance.options.arguments + ["--", entry.town],
            descriptors: descriptors)
        log.error("cannot execute \(program): \(Errno.current)")
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

    /// Whether the kernel has ended the connection.
    var hasConnectionEnded: Bool {
        var questions = [pollfd(fd: connection.rawValue, events: 0, revents: 0)]
        return poll(&questions, until: .now) && questions[0].revents & Int16(POLLERR) != 0
    }
}
