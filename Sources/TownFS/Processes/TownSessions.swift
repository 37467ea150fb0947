import CLinux
import Fuse
import Glibc
import Linux
import Liveness
import Logging
import Synchronization
import SystemPackage

/// The names of sessions in this town, defined in `mayor/rigs.json`.
///
/// A touch needs them and must not wait for the backing tree. So it uses only what the kernel has in its caches. If that
/// is not enough, or the file has changed, another thread reads it within a limited time.
final class TownSessions: Sendable {
    private struct Version: Hashable {
        let identity: FileIdentity
        let size: off_t
        let modified: WallTime

        /// Nil for a file that is not read.
        init?(_ status: FileStatus) {
            guard status.isRegularFile, status.st_size <= TownSessions.maximumSize else { return nil }
            identity = status.identity
            size = status.st_size
            modified = WallTime(status.st_mtim)
        }
    }

    private struct State {
        /// Nil if there is no such file.
        var version: Version?
        var names = SessionNames()
        var isReading = false
    }

    private static let path = "mayor/rigs.json"
    /// A larger file is not read.
    private static let maximumSize = 1 << 20
    /// How long a touch waits for the file to be read.
    private static let limit: Duration = .milliseconds(100)

    private let backing: BackingTree
    private let log: Logger
    private let state = Mutex(State())
    private let threads = HelperThreads()

    init(in backing: BackingTree, log: Logger) {
        self.backing = backing
        self.log = log
    }

    /// The current names; the former ones while the file is being written, is no JSON, or cannot be read in time.
    var names: SessionNames {
        if let version = cachedVersion, let known = state.withLock({ $0.version == version ? $0.names : nil }) {
            return known
        }
        let mustRead = state.withLock { state in
            defer { state.isReading = true }
            return !state.isReading
        }
        if mustRead { _ = threads.run(within: Self.limit) { self.update() } }
        return state.withLock { $0.names }
    }

    /// The version in the kernel's caches; nil if the kernel would have to ask a file system; the inner nil is no file.
    private var cachedVersion: Version?? {
        let (directory, path) = place
        do throws(Errno) {
            let file = OwnedDescriptor(
                takingOwnershipOf: try retryingInterrupts { clinux_open_cached(directory.rawValue, path) })
            return .some(Version(try FileStatus(cachedOf: file.rawValue)))
        } catch .noSuchFileOrDirectory, .notDirectory {
            return .some(nil)
        } catch {
            return nil
        }
    }

    private func update() {
        let (directory, path) = place
        let version = (try? FileStatus(of: path, in: directory.rawValue)).flatMap(Version.init)
        let isKnown = state.withLock { $0.version == version }
        let names = version == nil ? SessionNames() : isKnown ? nil : SessionNames(rigsDocument: read())
        if names == nil, !isKnown { log.warning("\(Self.path) is no JSON object; sessions keep their names") }
        state.withLock { state in
            state.version = version
            if let names { state.names = names }
            state.isReading = false
        }
    }

    /// A directory and the path of the file relative to it.
    private var place: (Descriptor, path: String) {
        let (directory, rest) = backing.start(to: Array(Self.path.utf8))
        return (directory, String(decoding: rest, as: UTF8.self))
    }

    /// Empty if the file cannot be read.
    private func read() -> [UInt8] {
        let (directory, path) = place
        guard let file = try? OwnedDescriptor(opening: path, in: directory.rawValue, O_RDONLY | O_NONBLOCK) else {
            return []
        }
        return (try? BackingDocument.bytes(of: file.rawValue, atMost: Self.maximumSize)) ?? []
    }
}
