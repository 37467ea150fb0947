import CLinux
import Fuse
import Glibc
import Linux
import Logging
import Synchronization
import SystemPackage
import TownFS

/// The process that owns the mount.
///
/// It mounts, starts a worker that serves and a standby, and replaces the worker with the standby when it dies.
///
///     keeper ──mount──▶ kernel ◀──/dev/fuse── worker, standby
///        │ └── memory: the journal, and the state that a successor needs
///        └──── control socket of each: `ControlMessage`; its end tells that the keeper is dead
///
/// It unmounts if the worker cannot be replaced: before Linux 6.9, or after too many deaths.
///
/// With `--scope=signals` the main mount lies over `.pulse`, and `KeeperMounts` has the others.
///
/// The keeper looks into the mount only once, on its own thread, to see whether it answers.
package struct Keeper: ~Copyable {
    /// How long the mount may take to answer for the first time.
    private static let answerLimit: Duration = .seconds(20)
    /// How long write-back after the worker's death may delay the unmount: a tool that hangs for a slow disk is worse
    /// off than one that reads an old document for a moment.
    private static let recoveryLimit: Duration = .milliseconds(500)

    let log: Logger
    let entry: MountInfo
    let backing: BackingTree
    let signalMounts: KeeperMounts?
    let journal: Journal
    let state: SharedMemory
    let connection: OwnedDescriptor
    let inheritance: Inheritance
    let secret: RedisSecret?
    /// The keeper's end of the socket of `DescriptorStore`.
    let store: OwnedDescriptor
    /// What workers have given it to keep, by key.
    var kept: [DescriptorStore.Key: SharedDescriptor] = [:]
    var worker: WorkerProcess
    /// Nil if there is none: it could not be started, or the worker cannot be replaced.
    var standby: WorkerProcess?
    var standbyDeaths: [ContinuousClock.Instant] = []
    let signals: OwnedDescriptor
    let mountTable: OwnedDescriptor
    let superblock: Mutex<FileSystemContext?>
    let probe: Probe
    var keptMount: KeptMount
    let role: Role.Held
    /// The numbers of the mounts over directories that the standby has.
    var handedMounts: Set<UInt64> = []
    var hangWatch = HangWatch()
    /// When to look for hanging threads.
    var nextLook = ContinuousClock.now + HangWatch.interval
    /// Whether the worker has closed its end of `WorkerProcess.channel`.
    var channelHasEnded = false
    /// Whether another keeper has mounted.
    var isAdopted = false
    /// What workers run: this program, or one that replaces it.
    var program = "/proc/self/exe"
    /// Whether the worker was killed for its successor to take over.
    var isUpgrading = false

    // MARK: Starting

    /// Mounts a town and starts its worker.
    ///
    /// Leaves nothing behind when it throws.
    ///
    /// - Parameters:
    ///   - town: The directory, without symbolic links.
    ///   - secret: The Redis URL, for the worker only.
    package static func mount(
        over town: String, options: MountOptions, secret: RedisSecret?, log: Logger
    ) throws -> Keeper {
        let signals = try OwnedDescriptor(blocking: Self.signalNumbers)
        // Opened before mounting: afterwards the path leads into the mount.
        let root = try OwnedDescriptor(opening: town, in: AT_FDCWD, O_PATH | O_DIRECTORY)
        let directory = try lockForMounting(town, root: root.rawValue)
        defer { withExtendedLifetime(directory) {} }
        var options = options
        if !options.sharedBacking, TownLock.isShared(directory.descriptor.rawValue) {
            log.warning("an earlier mount is still in use elsewhere, so caches are kept for a second only")
            options.sharedBacking = true
        }
        let lock = try TownLock.served.hold(in: root.rawValue)
        let memory: OwnedDescriptor
        do throws(Errno) {
            memory = try Journal.makeMemory()
        } catch {
            throw Failure("no memory for the journal: \(error). Is there a limit on file sizes (ulimit -f)?")
        }
        let state = try SharedState.make()
        let role = try Role.keeper.take(in: state)
        SharedState.becomeKeeper(of: state)
        let sockets = try DescriptorPair.messages()
        let store = OwnedDescriptor(takingOwnershipOf: sockets.0)
        let workersStore = SharedDescriptor(OwnedDescriptor(takingOwnershipOf: sockets.1))
        let probe = try Probe()
        let mountTable = try OwnedDescriptor(opening: "/proc/self/mountinfo", in: AT_FDCWD, O_RDONLY)
        let mounted = try mountMain(of: town, root: root.rawValue, options: options)
        let (entry, superblock) = (mounted.entry, mounted.superblock)
        let connection = mounted.connection
        do {
            let inheritance = Inheritance(
                town: town, options: options, connection: connection.rawValue, root: root.rawValue,
                journal: memory.rawValue, state: state.descriptor, workersStore: workersStore, lock: lock,
                secret: secret?.descriptor.rawValue)
            let worker = try WorkerProcess(inheritance, isStandby: false)
            let backing = BackingTree(takingOwnershipOf: root)
            let signalMounts =
                options.scope == .signals
                ? KeeperMounts(of: town, options: options, backing: backing, log: log) : nil
            return Keeper(
                log: log, entry: entry, backing: backing, signalMounts: signalMounts,
                journal: try Journal(takingOwnershipOf: memory), state: state, connection: connection,
                inheritance: inheritance, secret: secret, store: store, worker: worker, signals: signals,
                mountTable: mountTable, superblock: Mutex(superblock), probe: probe, keptMount: KeptMount(of: entry),
                role: role)
        } catch {
            try? KernelMount.detach([entry])
            throw Failure("cannot start the worker: \(error)")
        }
    }

    private static func mountMain(
        of town: String, root: CInt, options: MountOptions
    ) throws -> KernelMount.Mounted {
        guard options.scope == .signals else {
            return try KernelMount.mount(on: town, root: root, options: options)
        }
        let pulse = try PulseMountpoint.make(in: root, of: town)
        do {
            return try KernelMount.mount(
                on: "\(town)/\(PulseMountpoint.name)", root: pulse.rawValue, options: options, source: town)
        } catch {
            PulseMountpoint.remove(in: root)
            throw error
        }
    }

    /// Locks the directory while it is being mounted, so that of two keepers only one mounts.
    private static func lockForMounting(_ town: String, root: CInt) throws -> MountingLock {
        let directory = try OwnedDescriptor(opening: ".", in: root, O_RDONLY | O_DIRECTORY)
        guard flock(directory.rawValue, LOCK_EX | LOCK_NB) == 0, try MountTable().town(at: town) == nil else {
            throw Failure("\(town) is being mounted by another process.", .alreadyMounted)
        }
        return MountingLock(directory)
    }

    private final class MountingLock {
        let descriptor: OwnedDescriptor
        init(_ descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }
    }

    /// Asks the mount one question that only the worker can answer.
    final class Probe: Sendable {
        let answered: EventFD
        private let outcome = Mutex<Errno?>(nil)

        init() throws(Errno) { answered = try EventFD() }

        /// Nil if the mount has answered.
        ///
        /// Valid after `answered`.
        var failure: Errno? { outcome.withLock { $0 } }

        /// Asks on its own thread, which may hang.
        func start(_ path: String) {
            do throws(Errno) {
                _ = try Thread(named: "probe") {
                    var status = FileSystemStatus()
                    self.finish(statvfs(path, &status) == 0 ? nil : .current)
                }
            } catch {
                finish(error)
            }
        }

        private func finish(_ failure: Errno?) {
            outcome.withLock { $0 = failure }
            answered.signal()
        }
    }

    // MARK: Running

    /// Keeps the mount until it ends: by an unmount, a termination signal, or the worker's end.
    ///
    /// - Parameter ready: Called once, when the mount answers or has failed.
    ///   For an adopted worker it is not called.
    package consuming func run(ready: (Result<Void, Failure>) -> Void) -> ExitStatus {
        var isReady = isAdopted
        if isReady {
            log.warning("this keeper takes the place of another one", metadata: ["town": "\(entry.town)"])
            ControlMessage.keepAgain.send(to: worker.control)
            keptMount.keep(inheritance)
            startStandby()
        } else if signalMounts == nil {
            probe.start(entry.path)
        }
        var isAttached = true
        let limit = ContinuousClock.now + Self.answerLimit
        while true {
            var questions = [
                pollfd(fd: worker.exited, events: Int16(POLLIN), revents: 0),
                pollfd(fd: signals.rawValue, events: Int16(POLLIN), revents: 0),
                pollfd(fd: isReady ? -1 : probe.answered.descriptor, events: Int16(POLLIN), revents: 0),
                pollfd(fd: channelHasEnded ? -1 : worker.channel?.descriptor ?? -1, events: Int16(POLLIN), revents: 0),
                // Any change of the mount table: proc(5), "/proc/PID/mounts".
                pollfd(fd: isAttached ? mountTable.rawValue : -1, events: Int16(POLLPRI), revents: 0),
                pollfd(fd: standby?.exited ?? -1, events: Int16(POLLIN), revents: 0),
                pollfd(fd: store.rawValue, events: Int16(POLLIN), revents: 0),
            ]
            let nextDeadline = [keptMount.deadline, isAttached ? nextLook : nil].compactMap(\.self).min()
            let isAnswered = poll(&questions, until: isReady ? nextDeadline : limit)
            if isReady, isAttached, nextLook <= .now { replaceHangingWorker() }
            if let deadline = keptMount.deadline, deadline <= .now {
                keptMount.update(kept, signalMounts?.all ?? [])
            }
            if questions[0].revents != 0 {
                let status = worker.wait()
                if isReady, isAttached, replaceWorker(status) { continue }
                let outcome = finish(status, isAttached: isAttached)
                if !isReady { ready(.failure(Failure("the worker ended before the mount answered; see the log."))) }
                return outcome
            }
            if questions[5].revents != 0 { restartStandby() }
            if questions[6].revents != 0 { keepDescriptors() }
            if questions[1].revents != 0, let received = signals.nextSignal() {
                if received.signal != Self.upgradeSignal {
                    endOnSignal(received.signal, from: received.sender)
                } else if received.user == 0 || received.user == geteuid() {
                    upgrade(to: received.sender)
                }
            }
            if questions[3].revents != 0, let signalMounts, let channel = worker.channel {
                keptMount.noteChange()
                defer { updateStandby() }
                switch signalMounts.receive(from: channel) {
                case .nothing: break
                case .ready: probe.start(entry.path)
                case .failed(let failure):
                    ready(.failure(failure))
                    isReady = true
                    end()
                case .hasEnded: channelHasEnded = true
                }
            }
            if questions[2].revents != 0 {
                isReady = true
                if let failure = probe.failure {
                    ready(.failure(Failure("the mount answers with an error: \(failure)")))
                    end()
                } else {
                    log.info("mounted", metadata: ["town": "\(entry.town)", "worker": "\(worker.pid)"])
                    ready(.success(()))
                    keptMount.keep(inheritance)
                    startStandby()
                }
            }
            if questions[4].revents != 0, let table = try? MountTable(), table.current(entry) == nil {
                isAttached = false
                startDetaching()
            }
            if !isAnswered, !isReady {
                ready(.failure(Failure("the mount did not answer within \(Self.answerLimit).")))
                isReady = true
                worker.kill()
            }
        }
    }

    /// Lets the worker know that the mount is gone from the town; then the superblock may end.
    private borrowing func startDetaching() {
        let superblock = superblock.withLock { superblock in
            defer { superblock = nil }
            return superblock
        }
        do throws(Errno) {
            let connection = try OwnedDescriptor(duplicating: connection.rawValue)
            let detaching = DetachedMount(
                entry, control: worker.control, connection: SharedDescriptor(connection), superblock: superblock,
                log: log)
            _ = try Thread(named: "detach") { detaching.run() }
        } catch {
            log.error("cannot serve users of the detached mount: \(error)")
            ControlMessage.finish.send(to: worker.control)
        }
    }

    // MARK: Ending

    /// Ends the mount on a termination signal: unmounts, or detaches if it is in use.
    private borrowing func endOnSignal(_ signal: CInt, from sender: pid_t) {
        log.info(
            "ending on a signal",
            metadata: ["town": "\(entry.town)", "signal": "\(signal)", "sender": "\(ProcFS.description(of: sender))"])
        end()
    }

    private borrowing func end() {
        for mount in (signalMounts?.entries ?? []) + [entry] {
            do throws(Errno) {
                do throws(Errno) {
                    try KernelMount.unmount(mount, isLazy: false)
                } catch .resourceBusy {
                    try KernelMount.unmount(mount, isLazy: true)
                }
            } catch .invalidArgument {
                // It is gone already.
            } catch {
                log.error("cannot unmount \(mount.path): \(error)")
            }
        }
        // Without it, open files would keep the worker for as long as they are open.
        ControlMessage.finish.send(to: worker.control)
    }

    /// Cleans up after the worker's end.
    ///
    /// The town is plain files afterwards.
    ///
    /// - Parameters:
    ///   - status: The worker's, as in `ChildProcess.wait`.
    ///   - isAttached: Whether the main mount may still be mounted.
    private consuming func finish(_ status: Int32?, isAttached: Bool) -> ExitStatus {
        // That of an adopted worker is unknown: the end of the connection is its orderly end.
        let status = status ?? (KernelMount.hasEnded(connection.rawValue) ? 0 : 1)
        standby?.dismiss()
        let entry = entry
        let log = log
        if status != 0 {
            log.error("the worker ended unexpectedly", metadata: ["status": "\(status)", "town": "\(entry.town)"])
        } else {
            // An unmount is in the log of the worker, with the process that had asked for a write-back.
            let isMounted = (try? MountTable())?.current(entry) != nil
            log.info(
                "the connection has ended", metadata: ["town": "\(entry.town)", "by": isMounted ? "abort" : "unmount"])
        }
        // Also after an orderly end: a touch may have come during the last write-back.
        let recovery = recover(within: Self.recoveryLimit)
        signalMounts?.detachAll()
        let isDetached: Bool
        do throws(Errno) {
            if isAttached { try KernelMount.detach([entry]) }
            isDetached = true
        } catch {
            log.error("cannot detach \(entry.path): \(error)")
            isDetached = false
        }
        // Fails if it is a mountpoint again.
        if entry.isPulse { PulseMountpoint.remove(in: backing.rawRoot) }
        keptMount.dropAll()
        // The last descriptor of the connection: callers that wait for a reply get an error.
        _ = consume connection
        // The mount is gone; this process stays until the last document is written back.
        recovery?.wait()
        return status == 0 && isDetached ? .success : .failed
    }

    /// Writes back what the worker had committed but not written back.
    ///
    /// At the limit it stops waiting, not writing.
    ///
    /// - Returns: an event for the end of the write-back, unless it has ended.
    private borrowing func recover(within limit: Duration) -> EventFD? {
        guard let done = try? EventFD() else {
            log.error("no descriptors left to write documents back")
            return nil
        }
        let recovery = Recovery(
            in: backing, journal: journal, stateFile: StateDirectory.file(of: entry.town), log: log)
        do throws(Errno) {
            _ = try Thread(named: "recovery") {
                recovery.run()
                done.signal()
            }
            if done.wait(until: .now + limit) { return nil }
            log.warning("write-back takes long; detaching before it ends")
            return done
        } catch {
            recovery.run()
            return nil
        }
    }
}
