import DequeModule
import Synchronization
import SystemPackage

/// RELEASE, RELEASEDIR and FORGET requests that are served when no other request waits.
///
/// A client that closes a file and opens the next one should not wait for the close. No client waits for the reply to a
/// release, but the kernel counts it as a background request until it has one, so there is one short queue a connection.
/// Any thread may add and run.
final class DeferredReleases: Sendable {
    enum Release: Sendable {
        case release(FileHandle, of: InodeNumber, unique: UInt64)
        case releasedir(FileHandle, unique: UInt64)
        case forget(InodeNumber, count: UInt64)
    }

    /// Maximum number of releases that wait: each is a descriptor, and perhaps room on a disk, that is not freed yet.
    static let capacity = 8

    private let fileSystem: any FileSystem
    private let transport: any Transport
    private let waiting = Mutex(Deque<Release>(minimumCapacity: DeferredReleases.capacity))
    /// The count, so that an empty queue costs no lock.
    private let count = Atomic(0)

    init(of fileSystem: any FileSystem, over transport: any Transport) {
        self.fileSystem = fileSystem
        self.transport = transport
    }

    /// Defers a release.
    ///
    /// - Returns: False if the queue is full; then the caller serves it now.
    func add(_ release: Release) -> Bool {
        waiting.withLock { waiting in
            guard waiting.count < Self.capacity else { return false }
            waiting.append(release)
            count.store(waiting.count, ordering: .relaxed)
            return true
        }
    }

    /// Removes the oldest release, for the caller to run.
    func next() -> Release? {
        guard count.load(ordering: .relaxed) > 0 else { return nil }
        return waiting.withLock { waiting in
            defer { count.store(waiting.count, ordering: .relaxed) }
            return waiting.popFirst()
        }
    }

    func putBack(_ release: Release) {
        waiting.withLock { waiting in
            waiting.prepend(release)
            count.store(waiting.count, ordering: .relaxed)
        }
    }

    func run(_ release: Release) {
        let unique: UInt64
        switch release {
        case .release(let handle, _, let number):
            fileSystem.release(handle)
            unique = number
        case .releasedir(let handle, let number):
            fileSystem.releasedir(handle)
            unique = number
        case .forget(let inode, let count):
            // The only request without a reply.
            return fileSystem.forget(inode, count: count)
        }
        // No one waits for the reply, so there is nothing to undo.
        _ = transport.reply(to: unique)
    }

    func runAll() {
        while let release = next() { run(release) }
    }

    /// Runs the releases of one inode; those that another thread is running may still be unfinished on return.
    func runAll(of inode: InodeNumber) {
        guard count.load(ordering: .relaxed) > 0 else { return }
        func isDue(_ release: Release) -> Bool { if case .release(_, inode, _) = release { true } else { false } }
        let due = waiting.withLock { waiting in
            defer {
                waiting.removeAll(where: isDue)
                count.store(waiting.count, ordering: .relaxed)
            }
            return waiting.filter(isDue)
        }
        for release in due { run(release) }
    }
}
