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
    private let channel: KeeperChannel
    private let log: Logger
    /// Held with their connections, so that these outlive the worker until the mounts are detached.
    private var mounts: [[UInt8]: (entry: MountInfo, connection: SharedDescriptor)] = [:]
    /// Whether all directories that existed at the start are mounted.
    ///
    /// A failure after that ends nothing.
    private var isReady = false

    init(of town: String, options: MountOptions, backing: BackingTree, channel: KeeperChannel, log: Logger) {
        self.town = town
        self.options = options
        self.backing = backing
        self.channel = channel
        self.log = log
    }

    /// For poll(2): readable when `receive` would not block.
    var descriptor: CInt { channel.descriptor }

    var entries: [MountInfo] { mounts.values.map(\.entry) }

    /// Carries out the next request of the worker.
    func receive() -> News {
        do throws(Errno) {
            guard let (request, text, directory) = try channel.request() else { return .hasEnded }
            switch request {
            case .mount:
                guard let directory else { return .nothing }
                do {
                    let connection = try mount(text, directory)
                    try channel.confirm(with: connection.rawValue)
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
                isReady = true
                return .ready
            case .failed: return .failed(Failure(String(decoding: text, as: UTF8.self)))
            case .pulseUnmounted: detachAll()
            }
            return .nothing
        } catch {
            return .hasEnded
        }
    }

    private func mount(_ path: [UInt8], _ directory: SharedDescriptor) throws -> SharedDescriptor {
        let place = "\(town)/\(String(decoding: path, as: UTF8.self))"
        let mounted = try KernelMount.mount(on: place, root: directory.rawValue, options: options, source: town)
        backing.addMountpoint(path, try OwnedDescriptor(duplicating: directory.rawValue))
        let entry = mounted.entry
        let connection = SharedDescriptor(mounted.connection)
        mounts[path] = (entry, connection)
        log.info("mounted a directory", metadata: ["directory": "\(place)"])
        return connection
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
