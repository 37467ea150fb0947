import Glibc
import SystemPackage

/// One place where the same thing is measured.
struct Target {
    enum Name: String, Codable {
        /// The town, through the mount.
        case mount
        /// Another town, with a mirror in Redis.
        case mirrored
        /// Another town, which looks at no processes.
        case unattributed
        /// A plain directory on the file system that holds the town, or would.
        case plain
        /// A directory in memory: what a file costs at the least.
        case tmpfs
    }

    let name: Name
    /// The directory that stands for a town root.
    let directory: String
    /// The touched file, relative to the directory.
    let signalFile: String
    /// As the mount table calls it.
    let fileSystem: String

    var file: String { "\(directory)/\(signalFile)" }
    /// The touched files of clients that work at once.
    func clientFiles(_ count: Int) -> [String] {
        (0..<count).map { "\(directory)/.runtime/heartbeats/pulsefs-bench-\(getpid())-\($0).json" }
    }
    /// A file like any other in a town.
    var ordinaryFile: String { "\(directory)/pulsefs-bench-\(getpid()).txt" }

    init(name: Name, directory: String, signalFile: String) throws(Errno) {
        self.name = name
        self.directory = directory
        self.signalFile = signalFile
        fileSystem = try MountTable.current().mount(holding: directory)?.type ?? "unknown"
    }
}
