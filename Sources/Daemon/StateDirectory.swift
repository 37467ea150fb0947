import Glibc
import Linux
import TownFS

/// Where state files are.
enum StateDirectory {
    /// Replaces the default.
    private static let variable = "PULSEFS_STATE_DIRECTORY"

    /// Makes the directory of the default.
    static func make() {
        // What is missing shows when the file is saved.
        if getenv(variable) == nil, let path { FilePaths.makeDirectory(path) }
    }

    /// The state file of a town: in `/var/lib/pulsefs` for root, otherwise in `$XDG_STATE_HOME` or `~/.local/state`.
    ///
    /// - Returns: Nil for a user without a home directory.
    static func file(of town: String) -> StateFile? {
        // Two towns may have the same words in their paths.
        let hash = String(Array(town.utf8).fnv1a, radix: 16)
        let name = town.split(separator: "/").joined(separator: "-").suffix(200)
        return path.map { StateFile(path: "\($0)/\(name)-\(hash).state") }
    }

    private static var path: String? {
        func variable(_ name: String, _ suffix: String = "/pulsefs") -> String? {
            getenv(name).map { String(cString: $0) }.flatMap { $0.hasPrefix("/") ? $0 + suffix : nil }
        }
        if let path = variable(Self.variable, "") { return path }
        if geteuid() == 0 { return "/var/lib/pulsefs" }
        return variable("XDG_STATE_HOME") ?? variable("HOME", "/.local/state/pulsefs")
    }
}
