import Glibc
import Linux
import SystemPackage

/// Directories with more than one path in a town, because of bind mounts made before the town was mounted.
///
/// They are separate inodes of the FUSE mount. A change through one path is visible through the other without an
/// invalidation, so the kernel may cache neither names nor listings of them.
///
/// Source: /proc/self/mountinfo, proc(5).
struct AliasedDirectories {
    private let roots: Set<FileIdentity>

    /// A part of a file system that can be seen in the town.
    private struct Part {
        let device: String
        /// In its file system.
        let root: String
        /// Relative to the town's root; empty for what that is on.
        let place: String
    }

    /// - Parameter root: What a mount covers, opened before.
    init(in root: Descriptor) {
        let parts = (try? MountTable()).map { Self.parts(of: $0, in: root) } ?? []
        var places: Set<String> = []
        for (index, one) in parts.enumerated() {
            for other in parts[..<index] where one.device == other.device {
                if one.root.isAtOrBelow(other.root) {
                    places.insert(one.place)
                } else if other.root.isAtOrBelow(one.root) {
                    places.insert(other.place)
                }
            }
        }
        roots = Set(
            places.compactMap { place in
                (try? ExtendedStatus(of: place.isEmpty ? "." : place, in: root.rawValue)).map(Self.withoutMount)
            })
    }

    /// Whether this is the top of such a directory tree.
    func contains(_ found: ExtendedStatus) -> Bool {
        !roots.isEmpty && roots.contains(Self.withoutMount(found))
    }

    private static func withoutMount(_ found: ExtendedStatus) -> FileIdentity {
        FileIdentity(device: found.status.st_dev, number: found.status.st_ino)
    }

    /// The mount of the town's root, which comes first, and those on it, and on those.
    private static func parts(of table: MountTable, in root: Descriptor) -> [Part] {
        let path = withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(PATH_MAX)) { room in
            // because there is room for more than no bytes.
            let count = readlink("/proc/self/fd/\(root.rawValue)", room.baseAddress!, room.count)
            return String(decoding: room.prefix(max(0, count)).lazy.map(UInt8.init(bitPattern:)), as: UTF8.self)
        }
        guard let id = try? ExtendedStatus(of: root.rawValue).mount,
            let own = table.entries.first(where: { $0.id == Int(id) })
        else { return [] }
        let lower = own.path == "/" ? Substring(path) : path.dropFirst(own.path.count)
        let townRoot = (own.root == "/" ? "" : own.root) + lower
        var parts = [Part(device: own.device, root: townRoot.isEmpty ? "/" : townRoot, place: "")]
        var reached: Set<Int> = [own.id]
        // A mount is listed after the one that it is on.
        for mount in table.entries where reached.contains(mount.parent) && mount.path.hasPrefix(path + "/") {
            reached.insert(mount.id)
            parts.append(
                Part(device: mount.device, root: mount.root, place: String(mount.path.dropFirst(path.count + 1))))
        }
        return parts
    }
}

extension String {
    /// Of paths.
    fileprivate func isAtOrBelow(_ other: String) -> Bool {
        self == other || other == "/" || hasPrefix(other + "/")
    }
}
