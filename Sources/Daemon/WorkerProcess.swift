import Glibc
import Linux
import Synchronization
import SystemPackage
import TownFS

/// A worker as its keeper sees it: one that serves, or a standby that can replace it.
final class WorkerProcess: Sendable {
    let control: SharedDescriptor
    /// With --scope=signals.
    let channel: KeeperChannel?
    private let process: ChildProcess
    private let isReady = Mutex(false)

    /// Starts one.
    ///
    /// - Parameter isStandby: Whether it waits for `serve`.
    init(_ inheritance: Inheritance, isStandby: Bool, program: String = "/proc/self/exe") throws(Errno) {
        let sockets = try DescriptorPair.messages()
        control = SharedDescriptor(OwnedDescriptor(takingOwnershipOf: sockets.0))
        let workersEnd = OwnedDescriptor(takingOwnershipOf: sockets.1)
        let channels = inheritance.options.scope == .signals ? try KeeperChannel.pair() : nil
        channel = channels?.keepers
        process = try ChildProcess.spawn(
            program, inheritance.workerArguments(isStandby: isStandby),
            descriptors: inheritance.workerDescriptors(
                control: workersEnd.rawValue, channel: channels?.workers.descriptor),
            environment: ChildProcess.withoutBacktrace)
        withExtendedLifetime(channels) {}
    }

    /// A worker that an earlier keeper has started.
    ///
    /// - Parameters:
    ///   - control: This keeper's end of the control socket.
    ///   - channel: With --scope=signals.
    /// - Throws: ESRCH if it has ended.
    init(adopting pid: pid_t, control: SharedDescriptor, channel: KeeperChannel?) throws(Errno) {
        self.control = control
        self.channel = channel
        process = try ChildProcess(adopting: pid)
    }

    var pid: pid_t { process.pid }
    /// Readable once the process has ended.
    var exited: CInt { process.exited.rawValue }

    /// Waits until a standby is ready, which takes some milliseconds after its start.
    ///
    /// - Returns: False if it has ended, because it cannot read the state.
    func waitUntilReady() -> Bool {
        isReady.withLock { isReady in
            if !isReady { isReady = DescriptorStore.receiveNext(from: control.rawValue) != nil }
            return isReady
        }
    }

    /// Ends a standby, which has nothing to lose.
    func dismiss() {
        kill()
        _ = wait()
    }

    /// Has a standby take over.
    ///
    /// - Parameters:
    ///   - kept: What earlier workers have given the keeper to keep.
    ///   - mounts: The mounts over directories that they have served.
    func serve(inheriting kept: [DescriptorStore.Key: SharedDescriptor], _ mounts: [DirectoryMount] = []) {
        for (key, descriptor) in kept { DescriptorStore.send(key, descriptor.rawValue, to: control.rawValue) }
        DescriptorStore.send(DescriptorStore.signal, nil, to: control.rawValue)
        // Fails only if it has died, which is noticed in another way.
        try? channel?.send(inherited: mounts)
    }

    /// Waits for the end and reaps the process; see `ChildProcess.wait`.
    func wait() -> Int32? { process.wait() }

    func kill() { process.send(SIGKILL) }
}
