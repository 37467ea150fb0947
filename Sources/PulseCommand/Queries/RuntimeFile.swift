import Glibc
import Linux
import Liveness
import SystemPackage

/// What a mounted town says of a runtime, read from `.pulse/runtimes/<id>.json`.
///
/// Keys that an older or a newer worker does not write are nil or passed over.
struct RuntimeFile: Codable, Hashable, Sendable {
    /// The last touch: what it was, who made it, and what named the runtime.
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
    /// `alive`, `expired`, `exited`, or `never` for one that the town does not know.
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

    /// Reads what the town knows of some ids, in their order.
    static func read(_ ids: [RuntimeID], of mount: MountEntry) throws(Errno) -> TownAnswer<[RuntimeFile]> {
        try .ask { () throws(Errno) in
            let directory = try OwnedDescriptor(openingPulse: "runtimes", of: mount)
            var files: [RuntimeFile] = []
            for id in ids { files.append(try read(id, in: directory) ?? unknown(id)) }
            return files
        }
    }

    /// Nil for a runtime that is not known.
    ///
    /// EBADMSG for a file that makes no sense.
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

    /// All ids that the town knows, in order.
    ///
    /// - Parameter directory: `.pulse/runtimes`.
    static func ids(in directory: borrowing OwnedDescriptor) throws(Errno) -> [RuntimeID] {
        var ids: [RuntimeID] = []
        // Ids are at most 4,096 bytes long, so that this is as deep as it gets.
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

// MARK: - For people

extension RuntimeFile.Evidence {
    /// What it was, who made it and where, in a few words.
    ///
    /// - Parameter host: This one, which goes without saying.
    func words(on host: String) -> String {
        var words: [String] = []
        if let source { words.append([source, signal].compactMap { $0 }.joined(separator: " ")) }
        if let by { words.append("by \(by)") }
        if let program { words.append(pid.map { "\(program) \($0)" } ?? program) }
        if let place = self.host, place != host { words.append("on \(place)") }
        return words.joined(separator: ", ")
    }
}

/// Seconds as people say them, in six characters at most: `0s`, `59s`, `1m05s`, `2h03m`, `3d04h`, `100d`.
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
