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

    /// How long a process may not read, in seconds: a stopped one must not stop the keeper.
    private static let sendLimit = 5

    /// Starts one.
    ///
    /// - Parameter isStandby: Whether it waits for `serve`.
    init(_ inheritance: Inheritance, isStandby: Bool, program: String = "/proc/self/exe") throws(Errno) {
        let sockets = try DescriptorPair.messages()
        control = SharedDescriptor(OwnedDescriptor(takingOwnershipOf: sockets.0))
        var limit = timeval(tv_sec: Self.sendLimit, tv_usec: 0)
        setsockopt(sockets.0, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout.size(ofValue: limit)))
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

    /// Gives a standby what it needs to take over, or takes it back.
    ///
    /// - Parameter descriptors: None to take it back.
    /// - Returns: False if it is dead, or does not read.
    func hand(_ key: DescriptorStore.Key, _ descriptors: [CInt]) -> Bool {
        DescriptorStore.send(key, descriptors, to: control.rawValue)
    }

    /// Has a standby take over.
    func serve() { _ = hand(DescriptorStore.signal, []) }

    /// Waits for the end and reaps the process; see `ChildProcess.wait`.
    func wait() -> Int32? { process.wait() }

    func kill() { process.send(SIGKILL) }
}
