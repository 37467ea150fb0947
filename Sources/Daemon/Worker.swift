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

/// The process that serves the file system.
///
/// Its keeper has opened its descriptors.
package final class Worker: Sendable {
    private let town: Town
    private let options: MountOptions
    private let path: String
    private let version: String
    private let mount: MountInfo?
    private let mirror: RedisMirror?
    /// For the next keeper, too.
    private let secret: RedisSecret?
    private let state: SharedState
    private let role: Role.Held
    /// Until it starts a keeper, if it was the standby when keeper and worker have died.
    private let keeperRole = Mutex<Role.Held?>(nil)
    /// Whether the processes have died too often to go on.
    private let mustEnd: Bool
    private let descriptors: DescriptorStore
    /// The mounts over directories that an earlier worker has served.
    private let inheritedMounts: [DirectoryMount]
    /// With --scope=signals.
    private let channel: KeeperChannel?
    private let signalMountServer = Mutex<SignalMountServer?>(nil)
    /// This process's end of the control socket.
    private let control: Mutex<SharedDescriptor>
    private let log: Logger
    private let endsWithoutKeeper = Atomic(false)
    private let hasEnded = Mutex(false)
    /// Holds `TownLock.served`.
    private let lock: SharedDescriptor
    /// Holds `TownLock.detached`, until this process ends.
    private let detachedLock = Mutex<SharedDescriptor?>(nil)

    /// How long write-back may delay the detach after the keeper's death.
    private static let writebackLimit: Duration = .milliseconds(500)
    /// Maximum number of threads of a mount.
    ///
    /// They start on demand.
    ///
    /// With all but one waiting for disks, the last one serves signal files and `.pulse`.
    private static let threadCount = 64
    /// For a mount over `.pulse`, where only fsync waits for a disk.
    private static let pulseThreadCount = 4

    /// Takes the descriptors of `InheritedDescriptor`.
    ///
    /// Call it before any thread is started.
    ///
    /// - Parameter isStandby: Whether to wait first until the worker that serves has died.
    package init(
        serving path: String, options: MountOptions, isStandby: Bool, version: String, log: Logger
    ) throws {
        self.path = path
        self.options = options
        self.version = version
        self.log = log
        // Credentials and the umask belong to a thread, and new threads inherit them: so before the first one.
        umask(0)
        if options.allowOther, geteuid() == 0 {
            do throws(Errno) {
                try Session.prepareToServeOthers()
            } catch {
                throw Failure("cannot serve other users: \(error). That needs CAP_SETPCAP.")
            }
        }
        mount = try MountTable().town(at: path)
        HangWatch.installBacktrace()
        Self.raiseLimits()
        Self.reserveDescriptors()
        try RedisSecret.keepOutOfCores()
        let memory = try SharedMemory(
            takingOwnershipOf: OwnedDescriptor(takingOwnershipOf: InheritedDescriptor.state))
        var kept: [DescriptorStore.Key: SharedDescriptor] = [:]
        let control = SharedDescriptor(OwnedDescriptor(takingOwnershipOf: InheritedDescriptor.control))
        try SharedState.check(memory)
        let channel =
            options.scope == .signals
            ? KeeperChannel(takingOwnershipOf: OwnedDescriptor(takingOwnershipOf: InheritedDescriptor.channel)) : nil
        var mounts: [UInt64: DirectoryMount] = [:]
        if isStandby {
            keeperRole.withLock { $0 = Self.waitForDeath(in: memory, control, &kept, &mounts) }
            clinux_name_this_thread("pulsefs-worker")
        }
        // Until all threads of the one that served have ended.
        role = try Role.worker.take(in: memory)
        let isOnItsOwn = keeperRole.withLock { $0 != nil }
        if isOnItsOwn {
            log.error("keeper and worker have died; the standby goes on", metadata: ["town": "\(path)"])
        }
        mustEnd =
            isOnItsOwn && SharedState.recordDeath(in: memory, within: DeathLimit.period) >= DeathLimit.count
        inheritedMounts = Array(mounts.values)
        self.channel = channel
        self.control = Mutex(control)
        descriptors = DescriptorStore(
            takingOwnershipOf: OwnedDescriptor(takingOwnershipOf: InheritedDescriptor.store), inheriting: kept)
        state = try SharedState(memory, descriptors: descriptors)
        let root = OwnedDescriptor(takingOwnershipOf: InheritedDescriptor.root)
        lock = SharedDescriptor(OwnedDescriptor(takingOwnershipOf: InheritedDescriptor.lock))
        let journal = try Journal(
            takingOwnershipOf: OwnedDescriptor(takingOwnershipOf: InheritedDescriptor.journal))
        if SharedState.workers(in: memory) == 0 { Self.restoreState(of: path, into: journal, log) }
        secret = options.mirror.inheritedSecret(InheritedDescriptor.secret)
        mirror = try options.mirror.configuration(of: path, secret: secret).map { try RedisMirror($0, log: log) }
        town = try Town(
            takingOwnershipOf: root, journal: journal, configuration: Self.configuration(options, of: path), log: log,
            mirror: mirror)
    }

    /// Goes on where an earlier mount of the town has ended.
    private static func restoreState(of town: String, into journal: Journal, _ log: Logger) {
        StateDirectory.make()
        do throws(StateFile.Failure) {
            guard let restored = try StateDirectory.file(of: town)?.restore(into: journal) else { return }
            log.info("restored \(restored.runtimes) runtimes", metadata: ["saved": "\(restored.savedAt.rfc3339)"])
        } catch {
            log.warning("the state of an earlier mount is not restored: \(error)")
        }
    }

    /// Waits, as the standby, until the worker that serves has died.
    ///
    /// If the keeper dies, the worker starts another keeper, and this process exits. If both have died, it goes on.
    ///
    /// - Parameters:
    ///   - kept: Receives what earlier workers have given the keeper to keep.
    ///   - mounts: Receives the mounts over directories that they have served, by number.
    /// - Returns: The keeper's role if both have died.
    private static func waitForDeath(
        in state: SharedMemory, _ control: SharedDescriptor, _ kept: inout [DescriptorStore.Key: SharedDescriptor],
        _ mounts: inout [UInt64: DirectoryMount]
    ) -> Role.Held? {
        let keeper = SharedState.keeper(in: state)
        DescriptorStore.send(DescriptorStore.signal, [], to: control.rawValue)
        while let (key, descriptors) = DescriptorStore.receiveNext(from: control.rawValue) {
            if key == DescriptorStore.signal { return nil }
            if key != DirectoryMount.key(key.mount) {
                kept[key] = descriptors.first
            } else if descriptors.isEmpty {
                mounts[key.mount] = nil
            } else {
                do throws(Errno) {
                    mounts[key.mount] = try DirectoryMount(descriptors)
                } catch {
                    // The keeper starts another standby.
                    Log.logger("standby").error("cannot take over a directory: \(error)")
                    _exit(ExitStatus.failed.rawValue)
                }
            }
        }
        // Until the worker has started another keeper, or the mount has ended.
        while SharedState.keeper(in: state) == keeper, !KernelMount.hasEnded(InheritedDescriptor.connection),
            SharedState.canBeTakenOver(state)
        {
            // First the keeper's: nobody who has that finds the worker's taken for a moment only. The former keeper has it
            // until the last of its descriptors is closed.
            if let keeperRole = try? Role.keeper.takeIfFree(in: state) {
                if (try? Role.worker.takeIfFree(in: state)) ?? nil != nil { return keeperRole }
            }
            usleep(1_000)
        }
        _exit(ExitStatus.success.rawValue)
    }

    /// Serves until the mount ends or the keeper says so; then writes documents back and exits.
    package func run() throws -> Never {
        let status = TownStatus.Server(
            version: version, keeper: SharedState.keeper(in: state.memory), scope: options.scope.rawValue,
            mountTime: state.mountTime,
            takeovers: SharedState.workers(in: state.memory))
        if let channel { return try runSignalMounts(status, over: channel) }
        let fileSystem = try TownFileSystem(town, state: state) { [self] in
            var status = status
            status.keeper = SharedState.keeper(in: state.memory)
            return status
        }
        let session = try Session(
            takingOwnershipOf: InheritedDescriptor.connection, serving: fileSystem, state: state.connection())
        _ = try Thread(named: "control") { self.obeyKeeper(serving: fileSystem) }
        try mirror?.start(mirroring: town.liveness, receiver: fileSystem)
        try serve(session, threads: Self.threadCount)
        end()
    }

    /// Serves until the connection ends.
    ///
    /// After the keeper's death the control thread aborts the connection and unmounts; it then ends the process.
    private func serve(_ session: Session, threads: Int) throws {
        do throws(Errno) {
            try session.run(threads: threads)
        } catch {
            guard endsWithoutKeeper.load(ordering: .acquiring) else { throw error }
        }
        while endsWithoutKeeper.load(ordering: .acquiring) { pause() }
    }

    /// Serves `.pulse`, and directories that the keeper mounts for us, until `.pulse` is unmounted.
    private func runSignalMounts(_ status: TownStatus.Server, over channel: KeeperChannel) throws -> Never {
        let mountpoints = inheritedMounts.map { (path: $0.path, directory: $0.directory) }
        let signalMounts = try SignalMounts(of: town, state: state, over: mountpoints) { [self] in
            var status = status
            status.keeper = SharedState.keeper(in: state.memory)
            status.coverage = signalMountServer.withLock { $0 }?.coverage ?? ([], [])
            return status
        }
        let session = try Session(
            takingOwnershipOf: InheritedDescriptor.connection, serving: signalMounts.pulse,
            state: state.connection())
        let started = try SignalMountServer(of: signalMounts, keeping: descriptors, over: channel, log: log)
        signalMountServer.withLock { $0 = started }
        started.adopt(inheritedMounts)
        _ = try Thread(named: "control") { self.obeyKeeper(serving: signalMounts) }
        try mirror?.start(mirroring: town.liveness, receiver: signalMounts)
        let patterns = try options.patterns()
        _ = try Thread(named: "directories") { started.run(patterns, in: InheritedDescriptor.root) }
        try serve(session, threads: Self.pulseThreadCount)
        signalMounts.detach()
        started.end()
        end()
    }

    // MARK: Limits

    /// Raises soft limits to the hard ones: the open files and file sizes of all clients count as ours.
    private static func raiseLimits() {
        for resource in [RLIMIT_NOFILE, RLIMIT_FSIZE] {
            var limit = rlimit()
            guard getrlimit(__rlimit_resource_t(resource.rawValue), &limit) == 0 else { continue }
            limit.rlim_cur = limit.rlim_max
            setrlimit(__rlimit_resource_t(resource.rawValue), &limit)
        }
    }

    /// Makes the kernel enlarge the descriptor table to 8,192, before there are threads.
    ///
    /// Later, each doubling would wait for all cores: 10 to 16 ms in the middle of a request (`expand_fdtable` in
    /// fs/file.c). It costs 8 bytes a descriptor. With a lower limit it fails, and is not needed.
    private static func reserveDescriptors() {
        _ = try? OwnedDescriptor(duplicating: InheritedDescriptor.root, atLeast: 8191)
    }

    /// The configuration.
    ///
    /// The caches leave most descriptors to clients.
    private static func configuration(_ options: MountOptions, of path: String) throws -> Town.Configuration {
        var configuration = try options.configuration(of: path)
        configuration.stateFile = StateDirectory.file(of: path)
        var limit = rlimit()
        if getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 {
            configuration.descriptorCacheCapacity = min(
                configuration.descriptorCacheCapacity, Int(clamping: limit.rlim_cur) / 4)
            configuration.callerCapacity = min(configuration.callerCapacity, Int(clamping: limit.rlim_cur) / 8)
        }
        return configuration
    }

    // MARK: The keeper

    /// Carries out what the keeper says on the control socket, until it says "finish" or dies.
    private func obeyKeeper(serving fileSystem: any DetachableFileSystem) {
        while true {
            let control = control.withLock { $0 }
            switch ControlMessage.receive(from: control.rawValue) {
            case .detach?:
                log.debug("the mount is gone; serving its other users as plain files", metadata: ["town": "\(path)"])
                fileSystem.detach()
                ControlMessage.detach.send(to: control)
            case .invalidate?:
                let canExpireNames = Kernel.version >= (6, 1)
                fileSystem.invalidateEverything(names: canExpireNames)
                ControlMessage.invalidate.send(to: control)
            case .share?:
                detachedLock.withLock { $0 = try? TownLock.detached.hold(in: InheritedDescriptor.root) }
            case .keepAgain?: fileSystem.keepDescriptorsAgain()
            case .finish?: end()
            case nil:
                if replaceKeeper(serving: fileSystem) { continue }
                endWithoutKeeper()
                end()
            }
        }
    }

    /// Starts another keeper after the keeper's death.
    ///
    /// - Returns: False if this mount cannot have another one, or is gone.
    private func replaceKeeper(serving fileSystem: any DetachableFileSystem) -> Bool {
        guard let mount, !mustEnd else { return false }
        do throws(Errno) {
            guard try MountTable().current(mount) != nil else { return false }
            let server = signalMountServer.withLock { $0 }
            let channels = try server.map { _ throws(Errno) in try KeeperChannel.pair() }
            let control = try DescriptorPair.messages()
            let (keepersControl, ownControl) = (SharedDescriptor(control.0), SharedDescriptor(control.1))
            let store = try DescriptorPair.messages()
            let (keepersStore, ownStore) = (SharedDescriptor(store.0), SharedDescriptor(store.1))
            let inheritance = Inheritance(
                town: path, options: options, connection: InheritedDescriptor.connection,
                root: InheritedDescriptor.root, journal: InheritedDescriptor.journal,
                state: InheritedDescriptor.state, workersStore: ownStore, lock: lock,
                secret: secret?.descriptor.rawValue)
            keeperRole.withLock { $0 = nil }
            try KeeperProcess.replace(
                inheritance, control: keepersControl.rawValue, channel: channels?.keepers.descriptor,
                store: keepersStore.rawValue, mounts: server?.mounts ?? [])
            descriptors.replaceSocket(with: ownStore)
            fileSystem.keepDescriptorsAgain()
            if let channels { server?.replaceChannel(with: channels.workers) }
            self.control.withLock { $0 = ownControl }
            return true
        } catch {
            log.error("cannot start another keeper: \(error)")
            return false
        }
    }

    /// Ends the mount after the keeper's death.
    ///
    /// No keeper would recover a touch that is acknowledged after the last write-back. So the connections end before it:
    /// callers without a reply by then get an error. The long part of the write-back comes before that, and tools get
    /// to the plain files after it, so that none reads or replaces an older document.
    private func endWithoutKeeper() {
        guard !KernelMount.hasEnded(InheritedDescriptor.connection) else { return }
        log.error("the keeper has died; ending the mount")
        endsWithoutKeeper.store(true, ordering: .releasing)
        writeBack()
        do throws(Errno) {
            guard let mount else { return }
            let mounts = try MountTable().signalMounts(of: mount) + [mount]
            for mount in mounts {
                do throws(Errno) {
                    try KernelMount.abort(mount)
                } catch {
                    log.error("cannot end the connection of \(mount.path): \(error)")
                }
            }
            writeBack()
            try KernelMount.detach(mounts)
        } catch {
            log.error("cannot detach \(path): \(error)")
        }
    }

    /// Writes all documents back; stops waiting at a limit.
    private func writeBack() {
        _ = try? within(Self.writebackLimit) { [town] in town.writeBack() }
    }

    private func end() -> Never {
        let isFirst = hasEnded.withLock { hasEnded in
            defer { hasEnded = true }
            return !hasEnded
        }
        // The thread that came first ends the process.
        while !isFirst { pause() }
        let lost = town.close()
        // For a server, what is not sent by then would have been valid for a few more seconds.
        mirror?.close(within: .milliseconds(300))
        log.info("unmounted", metadata: ["town": "\(path)"])
        // Without destructors: other threads may still serve what was open when the mount was detached.
        _exit(lost == 0 ? ExitStatus.success.rawValue : ExitStatus.failed.rawValue)
    }
}
