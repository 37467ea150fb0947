import Linux
import SystemPackage

/// The mounts that make up a mounted town.
///
/// With `--scope=town` that is one mount over the town root, with the source `pulsefs`. With `--scope=signals` the main
/// mount lies over `.pulse`, and there is one more over each directory of signal files; the source of all is the town.
extension MountInfo {
    /// The source of a mount over a whole town.
    package static let wholeTown = "pulsefs"

    package var isPulseFS: Bool { type == "fuse.pulsefs" }

    /// Whether this is the main mount of a town that is mounted with `--scope=signals`.
    package var isPulse: Bool { isPulseFS && source != Self.wholeTown && path.hasSuffix("/\(PulseMountpoint.name)") }

    /// The town of which this is the main mount.
    package var town: String { isPulse ? String(path.dropLast(PulseMountpoint.name.utf8.count + 1)) : path }
}

extension MountTable {
    /// The topmost mount at a path, if it is ours.
    package func pulsefs(at path: String) -> MountInfo? {
        top(at: path).flatMap { $0.isPulseFS ? $0 : nil }
    }

    /// The main mount of a town: over the town itself or over its `.pulse`.
    package func town(at path: String) -> MountInfo? {
        if let mount = pulsefs(at: path), !mount.isPulse { return mount }
        return pulsefs(at: "\(path)/\(PulseMountpoint.name)").flatMap { $0.isPulse ? $0 : nil }
    }

    /// The mounts over directories of signal files that belong to a main mount.
    package func signalMounts(of main: MountInfo) -> [MountInfo] {
        guard main.isPulse else { return [] }
        return entries.filter {
            $0.isPulseFS && $0.id != main.id && $0.source == main.source && $0.path.hasPrefix(main.town + "/")
        }
    }

    /// Mounts over directories of signal files whose main mount is gone.
    package func orphans(of town: String) -> [MountInfo] {
        guard self.town(at: town) == nil else { return [] }
        return entries.filter { $0.isPulseFS && $0.source == town && $0.path.hasPrefix(town + "/") }
    }

    /// The mount that a town lies on, without our own mounts over it.
    package func enclosing(_ path: String) -> MountInfo? {
        let candidates = entries.filter { entry in
            if entry.path == path { return !entry.isPulseFS }
            return entry.path == "/" || path.hasPrefix(entry.path + "/")
        }
        // Of several at one path the last is on top.
        return candidates.reversed().max { $0.path.utf8.count < $1.path.utf8.count }
    }
}
