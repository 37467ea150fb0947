import Glibc
import Linux

/// The one setting of git that a town changes the meaning of: `core.fsyncMethod`.
///
/// `batch` and `writeout-only` call sync_file_range(2), which does nothing on a FUSE mount. git-config(1).
enum GitConfig {
    private static let methodsWithoutEffect: Set = ["batch", "writeout-only"]

    /// Configuration files of the system and of this user, in git's order: a later one overrides an earlier one.
    static var personalFiles: [String] {
        let home = getenv("HOME").map { String(cString: $0) }
        let directory = getenv("XDG_CONFIG_HOME").map { String(cString: $0) } ?? home.map { "\($0)/.config" }
        return ["/etc/gitconfig"]
            + [directory.map { "\($0)/git/config" }, home.map { "\($0)/.gitconfig" }].compactMap { $0 }
    }

    /// The files that set a method without effect: the last of `personal` that sets one, and those of repositories.
    ///
    /// Included files are not read.
    ///
    /// - Parameters:
    ///   - root: A path to the backing tree.
    ///   - town: The town as users name it.
    static func filesWithoutEffect(in root: String, of town: String, personal: [String] = personalFiles) -> [String] {
        func method(_ file: String) -> String? { (try? ProcFS.text(file)).flatMap(fsyncMethod) }
        func isWithoutEffect(_ file: String) -> Bool { method(file).map(methodsWithoutEffect.contains) ?? false }
        let chosen = personal.last { method($0) != nil }
        return [chosen].compactMap { $0 }.filter(isWithoutEffect)
            + repositories(in: root).filter { isWithoutEffect("\(root)\($0)/config") }.map { "\(town)\($0)/config" }
    }

    /// The value of `core.fsyncMethod`; nil if it is not set.
    static func fsyncMethod(in text: String) -> String? {
        var method: String?
        var isInCore = false
        for line in text.split(whereSeparator: \.isNewline) {
            var entry = line.drop(while: \.isWhitespace)
            if entry.first == "[" {
                guard let end = entry.firstIndex(of: "]") else { continue }
                isInCore = entry[..<end].dropFirst().lowercased() == "core"
                // An entry may follow on the same line.
                entry = entry[end...].dropFirst().drop(while: \.isWhitespace)
            }
            let parts = entry.split(separator: "=", maxSplits: 1)
            guard isInCore, parts.count == 2, words(parts[0]).map({ $0.lowercased() }) == ["fsyncmethod"] else {
                continue
            }
            let value = parts[1].prefix { $0 != "#" && $0 != ";" }
            method = words(value).joined(separator: " ").filter { $0 != "\"" }
        }
        return method
    }

    private static func words(_ text: Substring) -> [Substring] { text.split(whereSeparator: \.isWhitespace) }

    /// Directories of repositories, `.git` and bare ones, relative to `root`, with a leading slash.
    ///
    /// Breadth first, because repositories are near the top. Looks at `TownFacts.manyNames` names at most.
    private static func repositories(in root: String) -> [String] {
        var found: [String] = []
        var directories = [""][...]
        var names = 0
        while names < TownFacts.manyNames, let directory = directories.popFirst() {
            let entries = directoryEntries(closing: opendir("\(root)\(directory)/"))
            names += entries.count
            if Set(entries.map(\.name)).isSuperset(of: ["HEAD", "config", "objects"]) {
                found.append(directory)
            } else {
                directories += entries.filter(\.isDirectory).map { "\(directory)/\($0.name)" }
            }
        }
        return found
    }
}
