import CLinux
import Glibc
import Linux
import SystemPackage

/// Starts a keeper, as a process of its own or in this one.
package enum KeeperProcess {
    /// The descriptor numbers of a keeper that was spawned.
    private enum Descriptor {
        /// A pipe to the process that waits for the mount.
        static let report: CInt = 3
        /// The Redis URL, with --redis-inherited.
        static let secret: CInt = 4
    }

    /// Starts a keeper in the background, and returns when the mount answers.
    package static func spawn(_ town: String, options: MountOptions, secret: RedisSecret?) throws {
        let log = try Log.open(options.log, for: town)
        let pipe = try DescriptorPair.pipe()
        let report = OwnedDescriptor(takingOwnershipOf: pipe.reader)
        let keepersEnd = OwnedDescriptor(takingOwnershipOf: pipe.writer)
        _ = try ChildProcess.spawn(
            "/proc/self/exe", ["pulsefs", "keeper"] + options.arguments + ["--", town],
            descriptors: [.null, .null, .inherited(log.rawValue), .inherited(keepersEnd.rawValue)]
                + (secret.map { [.inherited($0.descriptor.rawValue)] } ?? []),
            isDetached: true, environment: ChildProcess.withoutBacktrace)
        // With our copy open, the keeper's death would not end the pipe.
        _ = consume keepersEnd
        try decode(report.readToEnd()).get()
    }

    /// Is the keeper that `spawn` has started.
    package static func run(_ town: String, options: MountOptions) throws -> Never {
        guard fcntl(Descriptor.report, F_GETFD) != -1 else {
            throw Failure("'pulsefs mount' starts 'pulsefs keeper'; do not start it by hand.", .usage)
        }
        // Started through /proc/self/exe, it would be called "exe" in ps(1).
        clinux_name_this_thread("pulsefs-keeper")
        ServiceManager.leave()
        let report = OwnedDescriptor(takingOwnershipOf: Descriptor.report)
        func send(_ outcome: Result<Void, Failure>) {
            var text = encode(outcome)
            text.withUTF8 { _ = write(report.rawValue, $0.baseAddress, $0.count) }
        }
        let secret = options.mirror.inheritedSecret(Descriptor.secret)
        let keeper: Keeper
        do {
            keeper = try Keeper.mount(over: town, options: options, secret: secret, log: Log.logger("keeper"))
        } catch {
            let failure = error as? Failure ?? Failure("\(error)")
            send(.failure(failure))
            Glibc.exit(failure.status.rawValue)
        }
        let status = keeper.run { outcome in
            send(outcome)
            // Ends the pipe.
            close(Descriptor.report)
        }
        Glibc.exit(status.rawValue)
    }

    /// Starts a keeper in place of one that has died, from the worker.
    ///
    /// The parameters are those of `Inheritance.keeperDescriptors`.
    static func replace(
        _ inheritance: Inheritance, control: CInt, channel: CInt?, store: CInt, mounts: [DirectoryMount]
    ) throws(Errno) {
        let starter = try ChildProcess.spawn(
            "/proc/self/exe",
            Inheritance.keeperArguments(
                of: inheritance.town, inheritance.options, adopting: getpid(), mounts: mounts.count, isStarter: true),
            descriptors: inheritance.keeperDescriptors(
                control: control, channel: channel, store: store, mounts: mounts),
            isDetached: true, environment: ChildProcess.withoutBacktrace)
        guard starter.wait() == 0 else { throw .noChildProcess }
    }

    /// Starts a keeper in place of one that has died, from a process that ends then.
    ///
    /// So the keeper gets the service manager for a parent, which does not notice the end of another process's child.
    package static func startAdopting(
        _ worker: pid_t, of town: String, mounts: Int, options: MountOptions
    ) throws -> Never {
        let end = InheritedDescriptor.mounts + CInt(mounts) * DirectoryMount.descriptorCount
        let descriptors = (InheritedDescriptor.connection..<end).map { ChildProcess.Descriptor.inherited($0) }
        _ = try ChildProcess.spawn(
            "/proc/self/exe", Inheritance.keeperArguments(of: town, options, adopting: worker, mounts: mounts),
            descriptors: [.null, .null, .inherited(2)] + descriptors, isDetached: true,
            environment: ChildProcess.withoutBacktrace)
        _exit(ExitStatus.success.rawValue)
    }

    /// Is the keeper that `replace` has started.
    package static func runAdopting(
        _ worker: pid_t, of town: String, mounts: Int, options: MountOptions
    ) throws -> Never {
        clinux_name_this_thread("pulsefs-keeper")
        // As a service, this is its main process now.
        ServiceManager.notify("MAINPID=\(getpid())")
        // It may have been unmounted meanwhile.
        guard
            let keeper = try Keeper.adopt(
                town, worker: worker, mounts: mounts, options: options, log: Log.logger("keeper"))
        else { Glibc.exit(ExitStatus.success.rawValue) }
        Glibc.exit(keeper.run { _ in }.rawValue)
    }

    /// Goes on, as the keeper, with a mount that the service manager has kept; returns if there is none.
    package static func resume(
        _ town: String, from taken: [String: SharedDescriptor], options: MountOptions, secret: RedisSecret?
    ) throws {
        guard
            let keeper = try Keeper.resume(
                town, from: taken, options: options, secret: secret, log: Log.logger("keeper"))
        else { return }
        ServiceManager.notify(serving(town))
        let status = keeper.run { _ in }
        ServiceManager.notify("STOPPING=1")
        Glibc.exit(status.rawValue)
    }

    private static func serving(_ town: String) -> String { "READY=1\nSTATUS=serving \(town)" }

    /// Is the keeper of `pulsefs mount --foreground`.
    ///
    /// Notifies the service manager.
    package static func runInForeground(
        _ town: String, options: MountOptions, secret: RedisSecret?, reportFailure: (Failure) -> Void
    ) throws -> Never {
        let keeper = try Keeper.mount(over: town, options: options, secret: secret, log: Log.logger("keeper"))
        let status = keeper.run { outcome in
            switch outcome {
            case .success: ServiceManager.notify(serving(town))
            case .failure(let failure): reportFailure(failure)
            }
        }
        ServiceManager.notify("STOPPING=1")
        Glibc.exit(status.rawValue)
    }

    // The report: `0` when the mount answers; else an exit status, a space and a message.

    private static func encode(_ outcome: Result<Void, Failure>) -> String {
        switch outcome {
        case .success: "0"
        case .failure(let failure): "\(failure.status.rawValue) \(failure.message)"
        }
    }

    private static func decode(_ text: String) -> Result<Void, Failure> {
        let parts = text.split(separator: " ", maxSplits: 1)
        guard let status = parts.first.flatMap({ Int32($0) }).flatMap(ExitStatus.init) else {
            return .failure(Failure("the keeper ended before the town was mounted; see the log."))
        }
        return status == .success ? .success(()) : .failure(Failure(String(parts.last ?? ""), status))
    }
}
