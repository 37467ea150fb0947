import Glibc
import Linux
import Synchronization
import SystemPackage
import TownFS

/// A worker as its keeper sees it: one that serves, or a standby that can replace it.
final class WorkerProcess: Sendable {
    /// What all workers of a mount inherit.
    ///
    /// The numbers are borrowed from the keeper.
    struct Inheritance: Sendable {
        let town: String
        let options: MountOptions
        let connection: CInt
        let root: CInt
        let journal: CInt
        let state: CInt
        /// The worker's end of the socket of `DescriptorStore`.
        let store: SharedDescriptor
        let secret: CInt?
        /// The worker's end of a `KeeperChannel`, with --scope=signals.
        let channel: CInt?
    }

    let control: SharedDescriptor
    private let process: ChildProcess
    private let isReady = Mutex(false)

    /// Starts one.
    ///
    /// - Parameter isStandby: Whether it waits for `ControlMessage.serve`.
    init(_ inheritance: Inheritance, isStandby: Bool, program: String = "/proc/self/exe") throws(Errno) {
        let sockets = try DescriptorPair.messages()
        control = SharedDescriptor(OwnedDescriptor(takingOwnershipOf: sockets.0))
        let workersEnd = OwnedDescriptor(takingOwnershipOf: sockets.1)
        process = try ChildProcess.spawn(
            program,
            ["pulsefs", "worker"] + inheritance.options.arguments + (isStandby ? ["--standby"] : [])
                + ["--", inheritance.town],
            descriptors: [
                .null, .null, .inherited(2), .inherited(inheritance.connection), .inherited(inheritance.root),
                .inherited(inheritance.journal), .inherited(workersEnd.rawValue),
                inheritance.secret.map { .inherited($0) } ?? .null,
                inheritance.channel.map { .inherited($0) } ?? .null, .inherited(inheritance.state),
                .inherited(inheritance.store.rawValue),
            ],
            environment: ChildProcess.withoutBacktrace)
    }

    /// A worker that an earlier keeper has started.
    ///
    /// - Parameter control: This keeper's end of the control socket.
    /// - Throws: ESRCH if it has ended.
    init(adopting pid: pid_t, control: SharedDescriptor) throws(Errno) {
        self.control = control
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

    /// Ends a standby.
    func dismiss() {
        shutdown(control.rawValue, CInt(SHUT_RDWR))
        _ = wait()
    }

    /// Has a standby take over.
    ///
    /// - Parameter kept: What earlier workers have given the keeper to keep.
    func serve(inheriting kept: [UInt64: SharedDescriptor]) {
        for (key, descriptor) in kept { DescriptorStore.send(key, descriptor.rawValue, to: control.rawValue) }
        DescriptorStore.send(0, -1, to: control.rawValue)
    }

    /// Waits for the end and reaps the process; see `ChildProcess.wait`.
    func wait() -> Int32? { process.wait() }

    func kill() { process.send(SIGKILL) }
}
