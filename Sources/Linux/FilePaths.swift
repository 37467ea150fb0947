import Glibc
import SystemPackage

/// Path lookups that the C library offers.
package enum FilePaths {
    /// The path without symbolic links.
    ///
    /// The corresponding C function is `realpath`.
    package static func resolved(_ path: String) throws(Errno) -> String {
        guard let resolved = realpath(path, nil) else { throw .current }
        defer { free(resolved) }
        return String(cString: resolved)
    }

    /// The path with the current directory before it, unless it is absolute.
    package static func absolute(_ path: String) -> String {
        guard !path.hasPrefix("/"), let directory = getcwd(nil, 0) else { return path }
        defer { free(directory) }
        return String(cString: directory) + "/" + path
    }

    /// The first file of this name in the directories of `PATH`, whether or not it may be executed.
    package static func inSearchPath(_ program: String) -> String? {
        let path = getenv("PATH").map { String(cString: $0) } ?? "/usr/bin:/bin"
        return path.split(separator: ":").lazy.map { "\($0)/\(program)" }.first { access($0, F_OK) == 0 }
    }
}
