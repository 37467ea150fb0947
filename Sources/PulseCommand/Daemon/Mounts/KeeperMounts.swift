import Glibc
import Linux
import Logging
import SystemPackage
import TownFS

/// The mounts over directories of signal files, in the keeper, which mounts them as the worker finds them.
///
/// Used by the keeper's one thread.
final class KeeperMounts {
    private struct Kept {
        let entry: MountEntry
        let connection: KeeperChannel.OwnedConnection
    }

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
    private let link: KeeperChannel
    private let log: Logger
    private var kept: [[UInt8]: Kept] = [:]
    /// Whether what was there at first is covered: from then on a failure is not the end.
    private var isReady = false

    init(
        of town: String, options: MountOptions, backing: BackingTree, link: KeeperChannel, log: Logger
    ) {
        self.town = town
        self.options = options
        self.backing = backing
        self.link = link
        self.log = log
    }

    /// For poll(2): readable when there is something for `takeMessage`.
    var descriptor: CInt { link.descriptor }

    var entries: [MountEntry] { kept.values.map(\.entry) }

    func takeMessage() -> News {
        do throws(Errno) {
            guard let (request, directory) = try link.request() else { return .hasEnded }
            switch request {
            case .cover(let path):
                guard let directory else { return .nothing }
                do {
                    let connection = try cover(path, directory)
                    try link.answer(.covered(connection))
                } catch {
                    let failure = error as? Failure ?? Failure("\(error)")
                    if !isReady { return .failed(failure) }
                    try link.answer(.refused(failure.message))
                }
            case .uncover(let path):
                if let cover = kept.removeValue(forKey: path) { detach([cover.entry]) }
                backing.uncover(path)
                try link.answer(.uncovered)
            case .gone(let path):
                kept[path] = nil
                backing.uncover(path)
            case .ready:
                isReady = true
                return .ready
            case .failed(let reason): return .failed(Failure(reason))
            case .pulseHasGone: detachAll()
            }
            return .nothing
        } catch {
            return .hasEnded
        }
    }

    private func cover(
        _ path: [UInt8], _ directory: KeeperChannel.OwnedConnection
    ) throws -> KeeperChannel.OwnedConnection {
        let place = "\(town)/\(String(decoding: path, as: UTF8.self))"
        let connection = try KernelMount.mount(
            over: place, root: directory.descriptor.rawValue, options: options, source: town)
        guard let entry = try? MountTable().pulsefs(at: place) else {
            try? KernelMount.unmount(place, isLazy: true)
            throw Failure("\(place) was mounted over, but is not in the table of mounts; was it renamed?")
        }
        let own = try retryingInterrupts { fcntl(directory.descriptor.rawValue, F_DUPFD_CLOEXEC, 0) }
        backing.cover(path, with: OwnedDescriptor(takingOwnershipOf: own))
        let kept = Kept(entry: entry, connection: KeeperChannel.OwnedConnection(connection))
        self.kept[path] = kept
        log.info("covered", metadata: ["directory": "\(place)"])
        return kept.connection
    }

    /// Takes all of them out of everybody's sight.
    func detachAll() {
        detach(entries)
    }

    private func detach(_ entries: [MountEntry]) {
        do throws(Errno) {
            try KernelMount.detach(entries)
        } catch {
            log.error("cannot detach what is mounted in \(town): \(error)")
        }
    }
}
