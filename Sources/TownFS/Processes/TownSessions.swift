import Fuse
import Glibc
import Linux
import Liveness
import Logging
import Synchronization
import SystemPackage

/// The names of sessions in this town, as `mayor/rigs.json` explains them; read again when that has changed.
final class TownSessions: Sendable {
    private struct Version: Hashable {
        let identity: FileIdentity
        let size: off_t
        let modified: WallTime
    }

    private struct State {
        var version: Version?
        var names = SessionNames()
    }

    private static let path = "mayor/rigs.json"
    /// A file that is larger is not read.
    private static let largest = 1 << 20

    private let backing: BackingTree
    private let log: Logger
    private let state = Mutex(State())

    init(in backing: BackingTree, log: Logger) {
        self.backing = backing
        self.log = log
    }

    /// As of now.
    ///
    /// While the file is broken, as it is for a moment when it is written, the names of before count.
    var names: SessionNames {
        let (directory, path) = place
        let status = try? FileStatus(of: path, in: directory.rawValue)
        let version = status.flatMap { status in
            status.isRegularFile && status.st_size <= Self.largest
                ? Version(identity: status.identity, size: status.st_size, modified: WallTime(status.st_mtim)) : nil
        }
        let known = state.withLock { $0.version == version ? $0.names : nil }
        if let known { return known }
        let names = version == nil ? SessionNames() : SessionNames(rigsDocument: read())
        if names == nil { log.warning("\(Self.path) is no JSON object; sessions are called as before") }
        return state.withLock { state in
            state.version = version
            if let names { state.names = names }
            return state.names
        }
    }

    /// The directory to look for the file from, and its path from there.
    private var place: (Descriptor, path: String) {
        let (directory, rest) = backing.start(to: Array(Self.path.utf8))
        return (directory, String(decoding: rest, as: UTF8.self))
    }

    private func read() -> [UInt8] {
        let (directory, path) = place
        guard let file = try? OwnedDescriptor(opening: path, in: directory.rawValue, O_RDONLY | O_NONBLOCK) else {
            return []
        }
        return [UInt8](unsafeUninitializedCapacity: Self.largest) { room, count in
            while count < room.count {
                let piece = try? retryingInterrupts {
                    pread(file.rawValue, room.baseAddress! + count, room.count - count, off_t(count))
                }
                guard let piece, piece > 0 else { return }
                count += piece
            }
        }
    }
}
