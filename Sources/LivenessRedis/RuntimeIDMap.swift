import FoundationEssentials
import Glibc
import Linux
import Liveness
import SystemPackage

/// The UUIDs that Multica knows runtimes by, from a JSON file `{"gastown/polecats/furiosa": "0198…"}`.
///
/// Who is not in it goes by their own id.
package struct RuntimeIDMap: Sendable {
    private let uuids: [RuntimeID: String]

    package var count: Int { uuids.count }

    package init() {
        uuids = [:]
    }

    package subscript(id: RuntimeID) -> String {
        uuids[id] ?? id.description
    }

    /// What is wrong with a file, in a sentence.
    package struct Problem: Error, Hashable, CustomStringConvertible {
        package let description: String
    }

    /// - Throws: `Problem` for what is not an object of UUIDs by id, and for two ids of one UUID: to forget the one would
    ///   be to forget the other.
    package init(json: [UInt8]) throws(Problem) {
        let words: [String: String]
        do {
            words = try JSONDecoder().decode([String: String].self, from: Data(json))
        } catch {
            throw Problem(description: "it is not a JSON object of strings")
        }
        var uuids: [RuntimeID: String] = [:]
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
        self.uuids = uuids
    }
}

/// The file of a `RuntimeIDMap`, read again when it has changed.
package struct RuntimeIDFile: Sendable {
    /// More than this is no such file.
    private static let largest = 64 << 20

    private let path: String
    private var seen: Version?
    package private(set) var map = RuntimeIDMap()
    /// What is wrong with the file as it is; the map is that of before.
    package private(set) var problem: String?

    private struct Version: Equatable {
        let inode: ino_t
        let size: off_t
        let seconds: Int
        let nanoseconds: Int
    }

    package init(path: String) {
        self.path = path
    }

    /// Reads the file if it is not as it was.
    ///
    /// A file that is gone or makes no sense changes nothing but `problem`.
    ///
    /// - Returns: Whether it was read or missed, now and not before.
    package mutating func refresh() -> Bool {
        let found: (version: Version, bytes: [UInt8])?
        do throws(RuntimeIDMap.Problem) {
            found = try readIfChanged()
        } catch {
            // When it is there again it is to be read, whether it has changed or not.
            seen = nil
            defer { problem = error.description }
            return problem != error.description
        }
        guard let found else { return false }
        seen = found.version
        do throws(RuntimeIDMap.Problem) {
            map = try RuntimeIDMap(json: found.bytes)
            problem = nil
            return true
        } catch {
            defer { problem = error.description }
            return problem != error.description
        }
    }

    private func readIfChanged() throws(RuntimeIDMap.Problem) -> (Version, [UInt8])? {
        do throws(Errno) {
            let file = try OwnedDescriptor(opening: path, in: AT_FDCWD, O_RDONLY | O_NONBLOCK)
            var status = stat()
            _ = try retryingInterrupts { fstat(file.rawValue, &status) }
            let version = Version(
                inode: status.st_ino, size: status.st_size, seconds: status.st_mtim.tv_sec,
                nanoseconds: status.st_mtim.tv_nsec)
            guard version != seen else { return nil }
            guard status.st_mode & S_IFMT == S_IFREG, status.st_size <= Self.largest else { throw .fileTooLarge }
            var bytes: [UInt8] = []
            var part = [UInt8](repeating: 0, count: 65_536)
            while true {
                let count = try retryingInterrupts { read(file.rawValue, &part, part.count) }
                guard count > 0, bytes.count <= Self.largest else { break }
                bytes += part.prefix(count)
            }
            return (version, bytes)
        } catch {
            throw RuntimeIDMap.Problem(description: "it cannot be read: \(error)")
        }
    }
}
