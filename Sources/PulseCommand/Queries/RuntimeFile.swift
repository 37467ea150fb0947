import Daemon
import Glibc
import Linux
import Liveness
import SystemPackage

/// `.pulse/runtimes/<id>.json` of a mounted town.
///
/// Keys that an older worker does not write are nil. Keys of a newer worker are ignored.
struct RuntimeFile: Codable, Hashable, Sendable {
    /// The last touch: its kind, its author, and the source of its attribution.
    struct Evidence: Codable, Hashable, Sendable {
        var source: String?
        var by: String?
        var signal: String?
        var receivedAt: String?
        var host: String?
        var pid: Int32?
        var program: String?
    }

    var id: String
    /// `alive`, `expired`, `exited` or `never`.
    var state: String
    var evidence: Evidence?
    var ageSeconds: Double?
    var ttlLeftSeconds: Double?
    var exitedAt: String?
    var lastCommand: String?
    var reportedState: String?

    var isAlive: Bool { state == "alive" }

    static func unknown(_ id: RuntimeID) -> RuntimeFile {
        RuntimeFile(id: id.description, state: "never")
    }

    /// Reads some runtimes, in the order of the ids.
    static func read(_ ids: [RuntimeID], of mount: MountInfo) throws(Errno) -> TownAnswer<[RuntimeFile]> {
        try .ask { () throws(Errno) in
            let directory = try OwnedDescriptor(openingPulse: "runtimes", of: mount)
            var files: [RuntimeFile] = []
            for id in ids { files.append(try read(id, in: directory) ?? unknown(id)) }
            return files
        }
    }

    /// Reads one runtime; nil for an unknown one.
    ///
    /// EBADMSG if the file cannot be decoded.
    ///
    /// - Parameter directory: `.pulse/runtimes`.
    static func read(_ id: RuntimeID, in directory: borrowing OwnedDescriptor) throws(Errno) -> RuntimeFile? {
        do throws(Errno) {
            let file = try OwnedDescriptor(opening: "\(id).json", in: directory.rawValue, O_RDONLY)
            guard let decoded: RuntimeFile = JSONText.decode(try file.readToEnd()) else { throw .badMessage }
            return decoded
        } catch .noSuchFileOrDirectory, .notDirectory, .staleNFSFileHandle {
            return nil
        }
    }

    /// All known ids, sorted.
    ///
    /// - Parameter directory: `.pulse/runtimes`.
    static func ids(in directory: borrowing OwnedDescriptor) throws(Errno) -> [RuntimeID] {
        var ids: [RuntimeID] = []
        // Ends: ids have at most 4,096 bytes.
        var prefixes = [""]
        while let prefix = prefixes.popLast() {
            for (name, isDirectory) in try names(in: prefix.isEmpty ? "." : prefix, of: directory) {
                if isDirectory {
                    prefixes.append(prefix + name + "/")
                } else if name.hasSuffix(".json"), let id = try? RuntimeID(prefix + name.dropLast(".json".count)) {
                    ids.append(id)
                }
            }
        }
        return ids.sorted()
    }

    private static func names(
        in path: String, of directory: borrowing OwnedDescriptor
    ) throws(Errno) -> [(name: String, isDirectory: Bool)] {
        let opened: OwnedDescriptor
        do throws(Errno) {
            opened = try OwnedDescriptor(opening: path, in: directory.rawValue, O_RDONLY | O_DIRECTORY)
        } catch .noSuchFileOrDirectory, .notDirectory, .staleNFSFileHandle {
            return []
        }
        guard let stream = fdopendir(opened.release()) else { throw .current }
        return directoryEntries(closing: stream).map { ($0.name, $0.isDirectory) }
    }
}

// MARK: - For the terminal

extension RuntimeFile.Evidence {
    /// The kind, author and host of the touch in a few words.
    ///
    /// - Parameter host: This host, which is left out.
    func words(on host: String) -> String {
        var words: [String] = []
        if let source { words.append([source, signal].compactMap { $0 }.joined(separator: " ")) }
        if let by { words.append("by \(by)") }
        if let program { words.append(pid.map { "\(program) \($0)" } ?? program) }
        if let place = self.host, place != host { words.append("on \(place)") }
        return words.joined(separator: ", ")
    }
}

/// A duration in at most six characters: `0s`, `59s`, `1m05s`, `2h03m`, `3d04h`, `100d`.
func describe(seconds: Double) -> String {
    let seconds = Int(max(0, min(seconds, 1e15)))
    func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
    switch seconds {
    case ..<60: return "\(seconds)s"
    case ..<3600: return "\(seconds / 60)m\(two(seconds % 60))s"
    case ..<86_400: return "\(seconds / 3600)h\(two(seconds / 60 % 60))m"
    case ..<8_640_000: return "\(seconds / 86_400)d\(two(seconds / 3600 % 24))h"
    default: return "\(seconds / 86_400)d"
    }
}
