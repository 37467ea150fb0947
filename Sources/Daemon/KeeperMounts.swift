import Glibc
import Linux
import Logging
import SystemPackage
import TownFS

/// The mounts over directories of signal files, in the keeper.
///
/// It mounts what the worker finds.
///
/// For one thread.
final class KeeperMounts {
    /// What a message of the worker means to the keeper.
    enum News {
        case nothing
        case ready
        case failed(Failure)
        case hasEnded
    }

    private let town: String
    private let options: MountOptions
    private let backing: BackingTree
    private let log: Logger
    /// Held with their connections, so that these outlive the worker.
    private var mounts: [[UInt8]: (entry: MountInfo, mount: DirectoryMount)] = [:]
    /// The number of the last mount; see `SharedState.mount`.
    private var lastNumber: UInt64 = 0
    /// Whether all directories that existed at the start are mounted.
    ///
    /// A failure after that ends nothing.
    private var isReady = false

    init(of town: String, options: MountOptions, backing: BackingTree, log: Logger) {
        self.town = town
        self.options = options
        self.backing = backing
        self.log = log
    }

    var entries: [MountInfo] { mounts.values.map(\.entry) }

    var all: [DirectoryMount] { mounts.values.map(\.mount) }

    // MARK: Taking over

    /// Goes on with what an earlier keeper has mounted.
    ///
    /// Detaches what it had just mounted, and nobody serves.
    func adopt(_ inherited: [DirectoryMount], main: MountInfo) throws(Errno) {
        isReady = true
        let found = try MountTable().signalMounts(of: main)
        for mount in inherited {
            lastNumber = max(lastNumber, mount.number)
            guard let entry = found.first(where: { $0.id == SharedState.mountID(of: mount.state) }) else { continue }
            backing.addMountpoint(mount.path, try OwnedDescriptor(duplicating: mount.directory.rawValue))
            mounts[mount.path] = (entry, mount)
        }
        let known = Set(entries.map(\.id))
        detach(found.filter { !known.contains($0.id) })
    }

    /// Prepares for another worker after one has died: carries out what it had asked for, and detaches what no other one
    /// can serve.
    ///
    /// The successor finds directories that are still to be mounted by itself.
    func recordDeath(of channel: KeeperChannel) {
        var question = [pollfd(fd: channel.descriptor, events: Int16(POLLIN), revents: 0)]
        while poll(&question, until: .now) {
            if case .hasEnded = receive(from: channel, mayMount: false) { break }
        }
        for (path, (entry, mount)) in mounts where !mount.canBeServed {
            mounts[path] = nil
            detach([entry])
            backing.removeMountpoint(path)
        }
    }

    /// The threads of the worker that serve requests, and what they are executing.
    var executing: [(unique: UInt64, thread: pid_t)] { all.flatMap { SharedState.executing(in: $0.state) } }

    // MARK: Requests

    /// Carries out the next request of the worker.
    func receive(from channel: KeeperChannel, mayMount: Bool = true) -> News {
        do throws(Errno) {
            guard let (request, text, directory) = try channel.request() else { return .hasEnded }
            switch request {
            case .mount:
                guard let directory, mayMount else { return .nothing }
                do {
                    try channel.confirm(mount(text, directory))
                } catch {
                    let failure = error as? Failure ?? Failure("\(error)")
                    if !isReady { return .failed(failure) }
                    try channel.refuse(failure.message)
                }
            case .unmount:
                if let mount = mounts.removeValue(forKey: text) { detach([mount.entry]) }
                backing.removeMountpoint(text)
                try channel.confirm()
            case .ended:
                mounts[text] = nil
                backing.removeMountpoint(text)
            case .ready:
                defer { isReady = true }
                return isReady ? .nothing : .ready
            case .failed:
                let failure = Failure(String(decoding: text, as: UTF8.self))
                if !isReady { return .failed(failure) }
                log.error("\(failure.message)", metadata: ["town": "\(town)"])
            case .pulseUnmounted: detachAll()
            }
            return .nothing
        } catch {
            return .hasEnded
        }
    }

    private func mount(_ path: [UInt8], _ directory: SharedDescriptor) throws -> DirectoryMount {
        let place = "\(town)/\(String(decoding: path, as: UTF8.self))"
        // Asking the kernel about one of our own mounts would wait for the worker, which waits for this answer.
        let found = ProcFS.location(ofLink: "/proc/self/fd/\(directory.rawValue)")?.mount
        if entries.contains(where: { UInt64($0.id) == found }) { throw Failure("\(place) is in a mount already") }
        lastNumber += 1
        let state = try SharedState.make(mount: lastNumber, path: path)
        let mounted = try KernelMount.mount(on: place, root: directory.rawValue, options: options, source: town)
        backing.addMountpoint(path, try OwnedDescriptor(duplicating: directory.rawValue))
        let entry = mounted.entry
        SharedState.set(mountID: entry.id, of: state)
        let mount = DirectoryMount(
            directory: directory, connection: SharedDescriptor(mounted.connection), state: state)
        mounts[path] = (entry, mount)
        log.info("mounted a directory", metadata: ["directory": "\(place)"])
        return mount
    }

    func detachAll() {
        detach(entries)
    }

    private func detach(_ entries: [MountInfo]) {
        do throws(Errno) {
            try KernelMount.detach(entries)
        } catch {
            log.error("cannot detach the mounts in \(town): \(error)")
        }
    }
}
