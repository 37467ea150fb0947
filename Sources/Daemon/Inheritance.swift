import Glibc
import Linux
import TownFS

/// The descriptor numbers of a worker, and of a keeper that takes the place of another.
package enum InheritedDescriptor {
    package static let connection: CInt = 3
    package static let root: CInt = 4
    static let journal: CInt = 5
    /// This process's end of the control socket.
    static let control: CInt = 6
    /// The Redis URL, with --redis-inherited.
    static let secret: CInt = 7
    /// This process's end of a `KeeperChannel`, with --scope=signals.
    static let channel: CInt = 8
    /// `SharedState`.
    static let state: CInt = 9
    /// This process's end of the socket of `DescriptorStore`.
    static let store: CInt = 10
    /// Holds `TownLock.served` until the last process has ended.
    static let lock: CInt = 11
    /// For a keeper: the worker's end of the socket of `DescriptorStore`, for further workers.
    static let workersStore: CInt = 12
    /// For a keeper: the first of each `DirectoryMount`.
    static let mounts: CInt = 13
}

/// What all processes of a mount inherit.
///
/// The numbers are borrowed.
struct Inheritance: Sendable {
    let town: String
    let options: MountOptions
    let connection: CInt
    let root: CInt
    let journal: CInt
    let state: CInt
    /// The worker's end of the socket of `DescriptorStore`.
    let workersStore: SharedDescriptor
    /// Holds `TownLock.served`.
    let lock: SharedDescriptor
    let secret: CInt?

    /// The arguments of a worker.
    func workerArguments(isStandby: Bool) -> [String] {
        ["pulsefs", "worker"] + options.arguments + (isStandby ? ["--standby"] : []) + ["--", town]
    }

    /// The descriptors of a worker, numbered as in `InheritedDescriptor`.
    func workerDescriptors(control: CInt, channel: CInt?) -> [ChildProcess.Descriptor] {
        descriptors(control: control, channel: channel, store: workersStore.rawValue)
    }

    /// The arguments of a keeper that takes the place of another.
    ///
    /// - Parameters:
    ///   - mounts: The number of mounts over directories.
    ///   - isStarter: Whether the process is to start that keeper, and end.
    static func keeperArguments(
        of town: String, _ options: MountOptions, adopting worker: pid_t, mounts: Int, isStarter: Bool = false
    ) -> [String] {
        ["pulsefs", "keeper", "--adopt", "\(worker)", "--mounts", "\(mounts)"] + (isStarter ? ["--start"] : [])
            + options.arguments + ["--", town]
    }

    /// The descriptors of a keeper that takes the place of another, numbered as in `InheritedDescriptor`.
    ///
    /// - Parameters:
    ///   - control: Its end of the worker's control socket.
    ///   - channel: Its end of the `KeeperChannel`.
    ///   - store: Its end of the socket of `DescriptorStore`.
    ///   - mounts: Those over directories.
    func keeperDescriptors(
        control: CInt, channel: CInt?, store: CInt, mounts: [DirectoryMount]
    ) -> [ChildProcess.Descriptor] {
        descriptors(control: control, channel: channel, store: store) + [.inherited(workersStore.rawValue)]
            + mounts.flatMap(\.descriptors).map { .inherited($0) }
    }

    private func descriptors(control: CInt, channel: CInt?, store: CInt) -> [ChildProcess.Descriptor] {
        [
            .null, .null, .inherited(2), .inherited(connection), .inherited(root), .inherited(journal),
            .inherited(control), .inherited(secret), .inherited(channel), .inherited(state), .inherited(store),
            .inherited(lock.rawValue),
        ]
    }
}

extension ChildProcess.Descriptor {
    fileprivate static func inherited(_ number: CInt?) -> Self { number.map { .inherited($0) } ?? .null }
}
