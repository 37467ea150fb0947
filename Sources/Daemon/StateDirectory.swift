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
        return path.map { StateFile(path: "\($0)/\(fileName(of: town))-\(hash).state") }
    }

    private static var path: String? { environment(variable) ?? path(forRoot: "/var/lib/pulsefs") }

    /// `forRoot` for root, otherwise a directory in `$XDG_STATE_HOME` or `~/.local/state`.
    ///
    /// - Returns: Nil for a user without a home directory.
    static func path(forRoot: String) -> String? {
        if geteuid() == 0 { return forRoot }
        return environment("XDG_STATE_HOME").map { $0 + "/pulsefs" }
            ?? environment("HOME").map { $0 + "/.local/state/pulsefs" }
    }

    /// A name for a file about a town: `home-anna-gt`.
    static func fileName(of town: String) -> Substring {
        town.split(separator: "/").joined(separator: "-").suffix(200)
    }

    private static func environment(_ name: String) -> String? {
        getenv(name).map { String(cString: $0) }.flatMap { $0.hasPrefix("/") ? $0 : nil }
    }
}
