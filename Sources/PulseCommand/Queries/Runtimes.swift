import Daemon
import Glibc
import Linux
import Liveness
import SystemPackage
import TownFS

/// Reading `.pulse/runtimes` of a mounted town.
extension RuntimeReport {
    var isAlive: Bool { state == "alive" }

    /// Reads one runtime; nil for an unknown one.
    ///
    /// EBADMSG if the file cannot be decoded.
    ///
    /// - Parameter directory: `.pulse/runtimes`.
    static func read(_ id: RuntimeID, in directory: borrowing OwnedDescriptor) throws(Errno) -> RuntimeReport? {
        do throws(Errno) {
            let file = try OwnedDescriptor(opening: "\(id).json", in: directory.rawValue, O_RDONLY)
            guard let report: RuntimeReport = JSONText.decode(try file.readToEnd()) else { throw .badMessage }
            return report
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
            let opened: OwnedDescriptor
            do throws(Errno) {
                opened = try OwnedDescriptor(opening: "./\(prefix)", in: directory.rawValue, O_RDONLY | O_DIRECTORY)
            } catch .noSuchFileOrDirectory, .notDirectory, .staleNFSFileHandle {
                continue
            }
            guard let stream = fdopendir(opened.release()) else { throw .current }
            for entry in directoryEntries(closing: stream) {
                let name = prefix + entry.name
                if entry.isDirectory {
                    prefixes.append(name + "/")
                } else if name.hasSuffix(".json"), let id = try? RuntimeID(String(name.dropLast(".json".count))) {
                    ids.append(id)
                }
            }
        }
        return ids.sorted()
    }
}

extension RuntimeReport.Evidence {
    /// The kind, author and host of the touch in a few words, for the terminal.
    ///
    /// - Parameter host: This host, which is left out.
    func words(on host: String) -> String {
        var words: [String] = []
        if let source { words.append([source, signal].compactMap { $0 }.joined(separator: " ")) }
        if let by { words.append("by \(by)") }
        if let writtenBy { words.append("written by \(writtenBy)") }
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
