import FoundationEssentials
import Glibc
import Linux
import Liveness
import Synchronization
import SystemPackage

/// Multica's UUIDs of runtimes, from a JSON file `{"gastown/polecats/furiosa": "0198…"}`.
///
/// A runtime that is not in it keeps its own id.
package struct RuntimeIDMap: Sendable {
    private var uuids: [RuntimeID: String] = [:]

    package var count: Int { uuids.count }

    package init() {}

    package subscript(id: RuntimeID) -> String { uuids[id] ?? id.description }

    /// What is wrong with a file.
    package struct Problem: Error, Hashable, CustomStringConvertible {
        package let description: String
    }

    /// - Throws: `Problem` unless the JSON is an object of UUIDs by id, without duplicate UUIDs: forgetting one of two
    ///   runtimes would forget the other.
    package init(json: [UInt8]) throws(Problem) {
        guard let words = try? JSONDecoder().decode([String: String].self, from: Data(json)) else {
            throw Problem(description: "it is not a JSON object of strings")
        }
        var owners: [String: String] = [:]
        for (word, text) in words {
            let id: RuntimeID
            do throws(RuntimeID.Invalid) {
                id = try RuntimeID(word)
            } catch {
                throw Problem(description: "'\(word.printable(upTo: 80))' is no runtime id: \(error)")
            }
            guard let uuid = UUID(uuidString: text)?.uuidString.lowercased() else {
                throw Problem(description: "'\(text.printable(upTo: 80))' (of \(id)) is no UUID")
            }
            if let other = owners.updateValue(word, forKey: uuid) {
                throw Problem(description: "\(min(word, other)) and \(max(word, other)) have the same UUID")
            }
            uuids[id] = uuid
        }
    }
}

/// The file of a `RuntimeIDMap`, read again when it changes.
package struct RuntimeIDFile: Sendable {
    private static let maximumSize = 64 << 20

    private let path: String
    /// Inode number, size, and modification time in seconds and nanoseconds.
    private var lastVersion: [Int] = []
    package private(set) var map = RuntimeIDMap()
    /// Why the file is unusable; `map` is the previous one then.
    package private(set) var problem: String?

    package init(path: String) {
        self.path = path
    }

    /// Reads the file if it has changed; an unusable file changes nothing but `problem`.
    ///
    /// - Returns: Whether map or problem changed.
    package mutating func refresh() -> Bool {
        do throws(RuntimeIDMap.Problem) {
            guard let bytes = try readIfChanged() else { return false }
            map = try RuntimeIDMap(json: bytes)
            problem = nil
            return true
        } catch {
            defer { problem = error.description }
            return problem != error.description
        }
    }

    private mutating func readIfChanged() throws(RuntimeIDMap.Problem) -> [UInt8]? {
        do throws(Errno) {
            let file = try OwnedDescriptor(opening: path, in: AT_FDCWD, O_RDONLY | O_NONBLOCK)
            var status = stat()
            _ = try retryingInterrupts { fstat(file.rawValue, &status) }
            let version = [
                Int(bitPattern: status.st_ino), status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec,
            ]
            guard version != lastVersion else { return nil }
            guard status.st_mode & S_IFMT == S_IFREG, status.st_size <= Self.maximumSize else { throw .fileTooLarge }
            var bytes: [UInt8] = []
            var part = [UInt8](repeating: 0, count: 65_536)
            while true {
                let count = try retryingInterrupts { read(file.rawValue, &part, part.count) }
                guard count > 0, bytes.count <= Self.maximumSize else { break }
                bytes += part.prefix(count)
            }
            lastVersion = version
            return bytes
        } catch {
            // Read it once it is back, changed or not.
            lastVersion = []
            throw RuntimeIDMap.Problem(description: "it cannot be read: \(error)")
        }
    }
}

/// The map in use, from a file whose disk may hang.
final class RuntimeIDs: Sendable {
    private let file: Mutex<RuntimeIDFile>
    private let current = Mutex(RuntimeIDMap())
    private let isReading = Atomic<Bool>(false)

    init(path: String) {
        file = Mutex(RuntimeIDFile(path: path))
    }

    var map: RuntimeIDMap { current.withLock { $0 } }

    /// Reads the file if it has changed.
    ///
    /// - Returns: Nil without a change, and at the limit; the read then continues in the background.
    func refresh(within limit: Duration) -> MirrorStatus.IDMap? {
        guard !isReading.exchange(true, ordering: .acquiring) else { return nil }
        let update = try? within(limit) { () -> MirrorStatus.IDMap? in
            // Held during I/O: only this function takes it, once at a time.
            self.file.withLock { file in
                defer { self.isReading.store(false, ordering: .releasing) }
                guard file.refresh() else { return nil }
                self.current.withLock { $0 = file.map }
                return MirrorStatus.IDMap(entries: file.map.count, problem: file.problem)
            }
        }
        return update ?? nil
    }
}
