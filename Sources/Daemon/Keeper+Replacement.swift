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
    /// - Parameters:
    ///   - worker: Its pid.
    ///   - mounts: The number of mounts over directories.
    /// - Returns: nil if the town is not mounted any more, or the worker has died and a standby has taken its place.
    package static func adopt(
        _ town: String, worker: pid_t, mounts: Int, options: MountOptions, log: Logger
    ) throws -> Keeper? {
        func take(_ number: CInt) -> OwnedDescriptor { OwnedDescriptor(takingOwnershipOf: number) }
        // Opened before the mount is looked up: a later unmount is noticed.
        let mountTable = try OwnedDescriptor(opening: "/proc/self/mountinfo", in: AT_FDCWD, O_RDONLY)
        guard let entry = try MountTable().town(at: town) else { return nil }
        let secret = options.mirror.inheritedSecret(InheritedDescriptor.secret)
        let state = try SharedMemory(takingOwnershipOf: take(InheritedDescriptor.state))
        let role = try Role.keeper.take(in: state)
        let adopted = try ChildProcess(adopting: worker)
        if adopted.hasEnded, try Role.worker.takeIfFree(in: state) == nil {
            log.info("another worker serves already, and starts a keeper of its own", metadata: ["town": "\(town)"])
            return nil
        }
        SharedState.becomeKeeper(of: state)
        let inheritance = Inheritance(
            town: town, options: options, connection: InheritedDescriptor.connection, root: InheritedDescriptor.root,
            journal: InheritedDescriptor.journal, state: state.descriptor,
            workersStore: SharedDescriptor(take(InheritedDescriptor.workersStore)),
            lock: SharedDescriptor(take(InheritedDescriptor.lock)),
            secret: secret?.descriptor.rawValue)
        let backing = BackingTree(takingOwnershipOf: take(InheritedDescriptor.root))
        let directories = try (0..<CInt(mounts)).map { index in
            let first = InheritedDescriptor.mounts + index * DirectoryMount.descriptorCount
            return try DirectoryMount((first..<first + DirectoryMount.descriptorCount).map { SharedDescriptor($0) })
        }
        let signalMounts = try adopt(directories, of: entry, options, backing, log)
        let channel = signalMounts.map { _ in KeeperChannel(takingOwnershipOf: take(InheritedDescriptor.channel)) }
        return Keeper(
            log: log, entry: entry, backing: backing, signalMounts: signalMounts,
            journal: try Journal(takingOwnershipOf: take(InheritedDescriptor.journal)), state: state,
            connection: take(InheritedDescriptor.connection), inheritance: inheritance, secret: secret,
            store: take(InheritedDescriptor.store),
            worker: try WorkerProcess(
                adopting: worker, control: SharedDescriptor(take(InheritedDescriptor.control)), channel: channel),
            signals: try OwnedDescriptor(blocking: signalNumbers), mountTable: mountTable, superblock: Mutex(nil),
            probe: try Probe(), keptMount: KeptMount(of: entry), role: role, isAdopted: true)
    }

    /// - Returns: nil unless it is with --scope=signals.
    private static func adopt(
        _ directories: [DirectoryMount], of entry: MountInfo, _ options: MountOptions, _ backing: BackingTree,
        _ log: Logger
    ) throws -> KeeperMounts? {
        guard options.scope == .signals else { return nil }
        let mounts = KeeperMounts(of: entry.town, options: options, backing: backing, log: log)
        try mounts.adopt(directories, main: entry)
        return mounts
    }

    // MARK: Replacing all processes

    /// Goes on with a mount whose processes have all died.
    ///
    /// - Parameter taken: What the service manager has kept.
    /// - Returns: nil if there is nothing to go on with. Then the documents are in their backing files, and the mount is
    ///   gone.
    package static func resume(
        _ town: String, from taken: [String: SharedDescriptor], options: MountOptions, secret: RedisSecret?, log: Logger
    ) throws -> Keeper? {
        let mountTable = try OwnedDescriptor(opening: "/proc/self/mountinfo", in: AT_FDCWD, O_RDONLY)
        guard let found = KeptMount.Descriptors(taken) else { return nil }
        let entry = try MountTable().town(at: town)
        if let entry, !found.belong(to: entry) {
            found.drop()
            return nil
        }
        do {
            guard let entry, !KernelMount.hasEnded(found.connection.rawValue) else {
                throw Failure("it was unmounted")
            }
            return try Keeper(resuming: found, of: entry, mountTable, options, secret, log)
        } catch {
            log.error("cannot go on with the mount: \(error)", metadata: ["town": "\(town)"])
            let root = try OwnedDescriptor(duplicating: found.root.rawValue)
            let journal = try Journal(takingOwnershipOf: OwnedDescriptor(duplicating: found.journal.rawValue))
            // The dead mounts over directories would be in the way.
            let table = try MountTable()
            try KernelMount.detach(entry.map { table.signalMounts(of: $0) } ?? table.orphans(of: town))
            Recovery(
                in: BackingTree(takingOwnershipOf: root), journal: journal, stateFile: StateDirectory.file(of: town),
                log: log
            ).run()
            found.drop()
            if let entry { try KernelMount.detach([entry]) }
            return nil
        }
    }

    private init(
        resuming found: KeptMount.Descriptors, of entry: MountInfo, _ mountTable: consuming OwnedDescriptor,
        _ options: MountOptions, _ secret: RedisSecret?, _ log: Logger
    ) throws {
        let state = try SharedMemory(takingOwnershipOf: OwnedDescriptor(duplicating: found.state.rawValue))
        try SharedState.check(state)
        guard SharedState.canBeTakenOver(state) else { throw Failure("the kernel cannot send requests again") }
        let role = try Role.keeper.take(in: state)
        SharedState.becomeKeeper(of: state)
        let deaths = SharedState.recordDeath(in: state, within: DeathLimit.period)
        guard deaths < DeathLimit.count else { throw Failure("the processes have died \(deaths) times") }
        let sockets = try DescriptorPair.messages()
        let store = OwnedDescriptor(takingOwnershipOf: sockets.0)
        let workersStore = SharedDescriptor(OwnedDescriptor(takingOwnershipOf: sockets.1))
        let connection = try OwnedDescriptor(duplicating: found.connection.rawValue)
        let root = try OwnedDescriptor(duplicating: found.root.rawValue)
        let journal = try OwnedDescriptor(duplicating: found.journal.rawValue)
        let lock = try TownLock.served.hold(in: root.rawValue)
        let inheritance = Inheritance(
            town: entry.town, options: options, connection: connection.rawValue, root: root.rawValue,
            journal: journal.rawValue, state: state.descriptor, workersStore: workersStore, lock: lock,
            secret: secret?.descriptor.rawValue)
        let backing = BackingTree(takingOwnershipOf: root)
        let signalMounts = try Self.adopt(
            found.directories.filter { SharedState.canBeTakenOver($0.state) }, of: entry, options, backing, log)
        let worker = try WorkerProcess(inheritance, isStandby: true)
        guard worker.waitUntilReady() else { throw Failure("the worker ended") }
        for (key, descriptor) in found.unlinked { _ = worker.hand(key, [descriptor.rawValue]) }
        for mount in signalMounts?.all ?? [] { _ = worker.hand(mount.key, mount.descriptors) }
        worker.serve()
        self.init(
            log: log, entry: entry, backing: backing, signalMounts: signalMounts,
            journal: try Journal(takingOwnershipOf: journal), state: state, connection: connection,
            inheritance: inheritance, secret: secret, store: store, kept: found.unlinked, worker: worker,
            signals: try OwnedDescriptor(blocking: Self.signalNumbers), mountTable: mountTable,
            superblock: Mutex(nil), probe: try Probe(), keptMount: KeptMount(of: entry), role: role, isAdopted: true)
    }

    // MARK: Replacing the worker

    /// Lets the standby go on where the worker has died.
    ///
    /// The worker is reaped, so none of its threads reads a request any more.
    ///
    /// - Parameter status: The worker's, as in `ChildProcess.wait`.
    /// - Returns: False if it cannot be replaced.
    mutating func replaceWorker(_ status: Int32?) -> Bool {
        // The end of the connection ends the worker.
        guard status != 0, !KernelMount.hasEnded(connection.rawValue), SharedState.canBeTakenOver(state) else {
            return false
        }
        guard isUpgrading || mayGoOnAfterDeath() else { return false }
        guard let successor = readyStandby() else { return false }
        standby = successor
        keepDescriptors()
        if let channel = worker.channel { signalMounts?.recordDeath(of: channel) }
        updateStandby()
        successor.serve()
        log.log(
            level: isUpgrading ? .info : .error,
            isUpgrading ? "another program serves" : "the worker ended unexpectedly; another one takes over",
            metadata: [
                "status": "\(status.map(String.init) ?? "unknown")", "town": "\(entry.town)",
                "worker": "\(successor.pid)",
            ])
        worker = successor
        channelHasEnded = false
        if isUpgrading { replaceProgram() }
        startStandby()
        return true
    }

    /// Records a death.
    ///
    /// - Returns: False if there were too many.
    private func mayGoOnAfterDeath() -> Bool {
        let deaths = SharedState.recordDeath(in: state, within: DeathLimit.period)
        if deaths < DeathLimit.count { return true }
        log.error("the worker has died \(deaths) times in \(DeathLimit.period)", metadata: ["town": "\(entry.town)"])
        return false
    }

    /// Kills a worker with threads that hang, so that the standby takes over.
    ///
    /// The requests that hang are carried out again, once.
    mutating func replaceHangingWorker() {
        let now = ContinuousClock.now
        nextLook = now + HangWatch.interval
        let worker = worker
        let executing = SharedState.executing(in: state) + (signalMounts?.executing ?? [])
        let hanging = hangWatch.look(at: executing, now: now) {
            HangWatch.activity(of: $0, in: worker.pid)
        }
        guard !hanging.isEmpty, SharedState.canBeTakenOver(state) else { return }
        log.error(
            "a request takes longer than \(HangWatch.limit), and waits for no disk; the worker is replaced",
            metadata: ["town": "\(entry.town)", "worker": "\(worker.pid)", "threads": "\(hanging)"])
        for thread in hanging { clinux_send_to_thread(worker.pid, thread, HangWatch.backtraceSignal) }
        // Time to print the backtraces, as nothing tells when that is done.
        usleep(200_000)
        worker.kill()
    }

    /// The standby, or one that is started now.
    private mutating func readyStandby() -> WorkerProcess? {
        if let standby, standby.waitUntilReady() { return standby }
        startStandby()
        return standby.flatMap { $0.waitUntilReady() ? $0 : nil }
    }

    // MARK: Upgrading

    /// Has the program of a process, which `pulsefs upgrade` runs, serve from now on.
    ///
    /// Its worker checks first that it can read the state. Then it takes over as from a worker that has died.
    mutating func upgrade(to sender: pid_t) {
        do throws(Errno) {
            guard SharedState.canBeTakenOver(state) else { throw .notSupported }
            let other = try ProcFS.link("/proc/\(sender)/exe")
            let successor = try WorkerProcess(inheritance, isStandby: true, program: other)
            guard successor.waitUntilReady() else {
                successor.dismiss()
                throw .execFormatError
            }
            log.info("upgrading", metadata: ["town": "\(entry.town)", "program": "\(other)"])
            standby?.dismiss()
            prepare(successor)
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
                program,
                Inheritance.keeperArguments(
                    of: entry.town, inheritance.options, adopting: worker.pid, mounts: signalMounts?.all.count ?? 0),
                descriptors: inheritance.keeperDescriptors(
                    control: worker.control.rawValue, channel: worker.channel?.descriptor, store: store.rawValue,
                    mounts: signalMounts?.all ?? []))
        } catch {
            log.error("cannot execute \(program): \(error)")
            _exit(ExitStatus.failed.rawValue)
        }
    }

    /// Keeps and drops what the worker has sent.
    mutating func keepDescriptors() {
        var changed: Set<DescriptorStore.Key> = []
        while let (key, descriptors) = DescriptorStore.receive(from: store.rawValue) {
            kept[key] = descriptors.first
            changed.insert(key)
        }
        if changed.isEmpty { return }
        keptMount.noteChange()
        for key in changed { hand(key, kept[key].map { [$0] } ?? []) }
    }

    mutating func startStandby() {
        standby = nil
        guard SharedState.canBeTakenOver(state) else { return }
        do throws(Errno) {
            prepare(try WorkerProcess(inheritance, isStandby: true, program: program))
        } catch {
            log.warning("cannot start a standby: \(error)", metadata: ["town": "\(entry.town)"])
        }
    }

    /// Gives a standby all that it needs, so that it can go on if keeper and worker die at once.
    private mutating func prepare(_ other: WorkerProcess) {
        standby = other
        handedMounts = []
        for (key, descriptor) in kept { hand(key, [descriptor]) }
        updateStandby()
    }

    private mutating func hand(_ key: DescriptorStore.Key, _ descriptors: [SharedDescriptor]) {
        guard let standby, !standby.hand(key, descriptors.map(\.rawValue)) else { return }
        log.warning("the standby does not read, and is replaced", metadata: ["town": "\(entry.town)"])
        standby.kill()
    }

    /// Tells the standby which directories are mounted.
    mutating func updateStandby() {
        guard let signalMounts else { return }
        let mounts = signalMounts.all
        let current = Set(mounts.map(\.number))
        for number in handedMounts.subtracting(current) { _ = standby?.hand(DirectoryMount.key(number), []) }
        for mount in mounts where !handedMounts.contains(mount.number) {
            _ = standby?.hand(mount.key, mount.descriptors)
        }
        handedMounts = current
    }

    /// Starts a standby after one has died.
    ///
    /// If they die often, the next one is started when the worker dies.
    mutating func restartStandby() {
        guard let status = standby?.wait() else { return }
        log.warning("the standby ended unexpectedly", metadata: ["status": "\(status)", "town": "\(entry.town)"])
        standby = nil
        let now = ContinuousClock.now
        standbyDeaths = standbyDeaths.filter { now - $0 < DeathLimit.period } + [now]
        if standbyDeaths.count < DeathLimit.count { startStandby() }
    }
}

/// So many deaths in a period end the mount.
enum DeathLimit {
    static let period: Duration = .seconds(60)
    /// Tests that kill more often raise it (`PULSEFS_DEATH_LIMIT`).
    static let count = getenv("PULSEFS_DEATH_LIMIT").flatMap { Int(String(cString: $0)) } ?? 5
}
