import CLinux
import Fuse
import Glibc
import Linux
import Logging
import Synchronization
import SystemPackage
import TownFS

/// The process that owns the mount: it mounts, starts the worker, and sees to it that the mount never outlives the
/// worker, whatever kills that.
///
///     keeper ──mount──▶ kernel ◀──/dev/fuse── worker
///        │ └── journal: memory in which the worker leaves what is not in real files yet
///        └──── lifeline: a socket; its end tells the worker that the keeper is gone, a byte that it shall finish
///
/// Where only the directories of signal files are mounted over (`MountScope.signals`), the mount is that over `.pulse`, and
/// there are more, `KeeperMounts`.
///
/// It does next to nothing, holds next to nothing, and never looks into the town through the mount but once, on a
/// thread of its own, to see whether it answers.
struct Keeper: ~Copyable {
    /// How long the mount may take to answer for the first time.
    private static let patience: Duration = .seconds(20)
    /// How long documents may take to be written down before the town is given back without them: a tool that hangs for
    /// a slow disk is worse off than one that reads an old document for a moment.
    private static let writeDownLimit: Duration = .milliseconds(500)

    private let log: Logger
    private let entry: MountEntry
    private let backing: BackingTree
    private let signalMounts: KeeperMounts?
    private let journal: Journal
    private let controlSocket: OwnedDescriptor
    private let connection: OwnedDescriptor
    private let worker: ChildProcess
    private let signals: OwnedDescriptor
    private let answer: Answer

    /// Mounts over a town and starts its worker.
    ///
    /// Nothing is left behind when this throws.
    ///
    /// - Parameters:
    ///   - town: The directory, without symbolic links.
    ///   - secret: The Redis URL, for the worker alone.
    static func mount(
        over town: String, options: MountOptions, secret: RedisSecret?, log: Logger
    ) throws -> Keeper {
        let signals = try OwnedDescriptor(blocking: [SIGTERM, SIGINT, SIGHUP])
        // Before anything is mounted over it: from then on its path leads into the mount.
        let root = try OwnedDescriptor(opening: town, in: AT_FDCWD, O_PATH | O_DIRECTORY)
        let turn = try takeTurn(at: town, root: root.rawValue)
        defer { withExtendedLifetime(turn) {} }
        let memory: OwnedDescriptor
        do throws(Errno) {
            memory = try Journal.makeMemory()
        } catch {
            throw Failure("no memory for the journal: \(error). Is there a limit on file sizes (ulimit -f)?")
        }
        let answer = try Answer()
        let sockets = try DescriptorPair.sockets()
        let controlSocket = sockets.first
        let workersEnd = sockets.second
        let mountpoint = options.scope == .town ? town : "\(town)/\(PulseMountpoint.name)"
        let connection = try mountMain(over: mountpoint, of: town, root: root.rawValue, options: options)
        guard let entry = try? MountTable().pulsefs(at: mountpoint) else {
            try? KernelMount.unmount(mountpoint, isLazy: true)
            throw Failure("\(mountpoint) was mounted, but is not in the table of mounts; was it renamed?")
        }
        do {
            let links = options.scope == .signals ? try KeeperChannel.pair() : nil
            let worker = try ChildProcess.spawn(
                "/proc/self/exe", ["pulsefs", "worker"] + options.arguments + ["--", town],
                descriptors: [
                    .null, .null, .inherited(2), .inherited(connection.rawValue), .inherited(root.rawValue),
                    .inherited(memory.rawValue), .inherited(workersEnd.rawValue),
                    secret.map { .inherited($0.descriptor.rawValue) } ?? .null,
                    links.map { .inherited($0.workers.descriptor) } ?? .null,
                ],
                environment: ChildProcess.dyingAtOnce)
            let backing = BackingTree(takingOwnershipOf: root)
            let signalMounts = links.map {
                KeeperMounts(of: town, options: options, backing: backing, link: $0.keepers, log: log)
            }
            return Keeper(
                log: log, entry: entry, backing: backing, signalMounts: signalMounts,
                journal: try Journal(takingOwnershipOf: memory), controlSocket: controlSocket, connection: connection,
                worker: worker, signals: signals, answer: answer)
        } catch {
            try? KernelMount.detach(entry)
            if entry.isPulse { PulseMountpoint.remove(from: town) }
            throw Failure("cannot start the worker: \(error)")
        }
    }

    /// The descriptor numbers under which the worker finds what it inherits.
    enum WorkerDescriptor {
        static let connection: CInt = 3
        static let root: CInt = 4
        static let journal: CInt = 5
        static let controlSocket: CInt = 6
        /// The Redis URL, with --redis-inherited.
        static let secret: CInt = 7
        /// Its end of a `KeeperChannel`, with --scope=signals.
        static let link: CInt = 8
    }

    /// Keeps the mount until it ends: by an unmount, by a termination signal, or with the worker.
    ///
    /// - Parameter ready: Called once, when the mount answers, or with the reason why it never will.
    consuming func run(ready: (Result<Void, Failure>) -> Void) -> ExitStatus {
        let answer = answer
        if signalMounts == nil { answer.ask(entry.path) }
        var isReady = false
        var hasLink = signalMounts != nil
        let limit = ContinuousClock.now + Self.patience
        while true {
            var questions = [
                pollfd(fd: worker.exited.rawValue, events: Int16(POLLIN), revents: 0),
                pollfd(fd: signals.rawValue, events: Int16(POLLIN), revents: 0),
                pollfd(fd: isReady ? -1 : answer.raised.descriptor, events: Int16(POLLIN), revents: 0),
                pollfd(fd: hasLink ? signalMounts?.descriptor ?? -1 : -1, events: Int16(POLLIN), revents: 0),
            ]
            let timeout = isReady ? -1 : CInt(clamping: (limit - .now).components.seconds + 1) * 1000
            let answered = poll(&questions, nfds_t(questions.count), timeout)
            if answered == -1 { continue }
            if questions[0].revents != 0 {
                let status = finish()
                if !isReady { ready(.failure(Failure("the worker ended before the mount answered; see the log."))) }
                return status
            }
            if questions[1].revents != 0 { endOnSignal() }
            if questions[3].revents != 0, let signalMounts {
                switch signalMounts.takeMessage() {
                case .nothing: break
                case .ready: answer.ask(entry.path)
                case .failed(let failure):
                    ready(.failure(failure))
                    isReady = true
                    end()
                case .hasEnded: hasLink = false
                }
            }
            if questions[2].revents != 0 {
                isReady = true
                if let failure = answer.failure {
                    ready(.failure(Failure("the mount answers with an error: \(failure)")))
                    end()
                } else {
                    log.info("mounted", metadata: ["town": "\(entry.town)", "worker": "\(worker.pid)"])
                    ready(.success(()))
                }
            }
            if answered == 0, !isReady {
                ready(.failure(Failure("the mount did not answer within \(Self.patience).")))
                isReady = true
                worker.send(SIGKILL)
            }
        }
    }

    // MARK: Beginning

    /// Mounts over the town, or over its `.pulse` where the rest is mounted by and by.
    private static func mountMain(
        over mountpoint: String, of town: String, root: CInt, options: MountOptions
    ) throws -> OwnedDescriptor {
        guard options.scope == .signals else {
            return try KernelMount.mount(over: mountpoint, root: root, options: options)
        }
        let pulse = try PulseMountpoint.make(in: root, of: town)
        do {
            return try KernelMount.mount(over: mountpoint, root: pulse.rawValue, options: options, source: town)
        } catch {
            PulseMountpoint.remove(in: root)
            throw error
        }
    }

    /// Locks the directory beneath while it is being mounted over, so that of two who come at once only one does.
    private static func takeTurn(at town: String, root: CInt) throws -> Turn {
        let directory = try OwnedDescriptor(opening: ".", in: root, O_RDONLY | O_DIRECTORY)
        guard flock(directory.rawValue, LOCK_EX | LOCK_NB) == 0, try MountTable().town(at: town) == nil else {
            throw Failure("\(town) is being mounted by somebody else right now.", .alreadyMounted)
        }
        return Turn(lock: directory)
    }

    /// A lock that lasts as long as this.
    private final class Turn {
        private let lock: OwnedDescriptor
        init(lock: consuming OwnedDescriptor) { self.lock = lock }
    }

    /// What comes of asking the mount something only the worker can answer.
    private final class Answer: Sendable {
        let raised: EventFD
        private let outcome = Mutex<Errno?>(nil)

        init() throws(Errno) { raised = try EventFD() }

        /// Nil when the mount has answered, once `raised` is.
        var failure: Errno? { outcome.withLock { $0 } }

        /// Asks on a thread of its own, which may wait for ever.
        func ask(_ path: String) {
            do throws(Errno) {
                _ = try Thread(named: "probe") {
                    var status = FileSystemStatus()
                    self.settle(statvfs(path, &status) == 0 ? nil : .current)
                }
            } catch {
                settle(error)
            }
        }

        private func settle(_ failure: Errno?) {
            outcome.withLock { $0 = failure }
            raised.raise()
        }
    }

    // MARK: Ending

    /// Ends the mount because we are told to: in order if nobody uses it, else out of everybody's sight.
    private borrowing func endOnSignal() {
        let signal = signals.nextSignal().map { "\($0)" } ?? "none"
        log.info("ending", metadata: ["town": "\(entry.town)", "signal": "\(signal)"])
        end()
    }

    private borrowing func end() {
        for entry in (signalMounts?.entries ?? []) + [entry] {
            do throws(Errno) {
                guard let now = try MountTable().current(entry) else { continue }
                try KernelMount.unmount(now.path, isLazy: false)
            } catch {
                do throws(Errno) {
                    try KernelMount.detach(entry)
                } catch {
                    log.error("cannot detach \(entry.path): \(error)")
                }
            }
        }
        // Whoever still has files open would keep the worker for ever.
        _ = send(controlSocket.rawValue, "F", 1, CInt(clinux_msg_nosignal))
    }

    /// Cleans up after the worker.
    ///
    /// The town is plain files afterwards.
    private consuming func finish() -> ExitStatus {
        let status = worker.wait()
        let entry = entry
        let log = log
        if status != 0 {
            log.error("the worker ended unexpectedly", metadata: ["status": "\(status)", "town": "\(entry.town)"])
        }
        // After an end in order, too: a touch may have come while the last documents were being written.
        let recovered = recover(within: Self.writeDownLimit)
        signalMounts?.detachAll()
        let isDetached: Bool
        do throws(Errno) {
            try KernelMount.detach(entry)
            isDetached = true
        } catch {
            log.error("cannot detach \(entry.path): \(error)")
            isDetached = false
        }
        if entry.isPulse { PulseMountpoint.remove(in: backing.rawRoot) }
        // Closed for good: who still waits for an answer gets an error instead.
        _ = consume connection
        // The mount goes first, then this process, but not before the last document is in its file.
        recovered?.wait()
        return status == 0 && isDetached ? .success : .failed
    }

    /// Writes down what the worker had committed and not written down.
    ///
    /// Gives up waiting, not writing, at the limit.
    ///
    /// - Returns: What will be raised when all is written, unless it is already.
    private borrowing func recover(within limit: Duration) -> EventFD? {
        guard let done = try? EventFD() else {
            log.error("no descriptors left to write documents down")
            return nil
        }
        let recovery = Recovery(in: backing, journal: journal, log: log)
        do throws(Errno) {
            _ = try Thread(named: "recovery") {
                recovery.run()
                done.raise()
            }
            if done.wait(until: .now + limit) { return nil }
            log.warning("writing documents down takes long; detaching already")
            return done
        } catch {
            recovery.run()
            return nil
        }
    }
}
