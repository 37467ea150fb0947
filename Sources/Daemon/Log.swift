import CLinux
import Fuse
import Glibc
import Linux
import Logging
import SystemPackage

/// The log of keeper and worker: standard error, which `pulsefs mount` redirects to a file.
package enum Log {
    /// A larger file is renamed to FILE.old when the town is mounted.
    private static let largest: off_t = 1 << 20

    package static func logger(_ role: String) -> Logger {
        var logger = Logger(label: "pulsefs.\(role)", factory: { StreamLogHandler.standardError(label: $0) })
        logger[metadataKey: "pid"] = "\(getpid())"
        return logger
    }

    /// Opens the log of a town for appending.
    ///
    /// Makes the directory of the default log.
    static func open(_ file: String?, for town: String) throws -> OwnedDescriptor {
        if file == nil { FilePaths.makeDirectory(try defaultDirectory()) }
        let path = try file ?? defaultPath(for: town)
        var status = FileStatus()
        if stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_size > largest {
            rename(path, path + ".old")
        }
        do {
            return try OwnedDescriptor(opening: path, in: AT_FDCWD, O_WRONLY | O_CREAT | O_APPEND, mode: 0o600)
        } catch {
            throw Failure("cannot open the log \(path): \(error). Choose another with --log.")
        }
    }

    /// `/var/log/pulsefs/home-anna-gt.log` for root, otherwise in `$XDG_STATE_HOME` or `~/.local/state`.
    package static func defaultPath(for town: String) throws -> String {
        try defaultDirectory() + "/" + StateDirectory.fileName(of: town) + ".log"
    }

    private static func defaultDirectory() throws -> String {
        guard let directory = StateDirectory.path(forRoot: "/var/log/pulsefs") else {
            throw Failure("HOME is not set, so there is no default log. Choose a file with --log.")
        }
        return directory
    }
}
