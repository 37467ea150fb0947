import Glibc
import Linux
import SystemPackage

/// Directories that have more than one path in a town, as they, or others above them, were bound to a second place before
/// the town was mounted.
///
/// What is done by one path shows by the other, and the kernel, to which these are two directories, does not notice: it may keep
/// neither names nor listings of them.
///
/// Source: /proc/self/mountinfo, proc(5).
struct AliasedDirectories {
    private let roots: Set<FileIdentity>

    /// A part of a file system that can be seen in the town.
    private struct Part {
        let device: Substring
        /// In its file system.
        let root: Substring
        /// Relative to the town's root; empty for what that is on.
        let place: String
    }

    /// - Parameter root: What a mount covers, opened before.
    init(in root: Descriptor) {
        let table = (try? Self.table()) ?? ""
        let parts = Self.parts(of: table, in: root)
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

    /// Whether it is the topmost of such directories; what is below it is one, too.
    func contains(_ found: ExtendedStatus) -> Bool {
        !roots.isEmpty && roots.contains(Self.withoutMount(found))
    }

    private static func withoutMount(_ found: ExtendedStatus) -> FileIdentity {
        FileIdentity(device: found.status.st_dev, number: found.status.st_ino)
    }

    private static func table() throws(Errno) -> String {
        let file = try OwnedDescriptor(opening: "/proc/self/mountinfo", in: AT_FDCWD, O_RDONLY)
        var bytes: [UInt8] = []
        while true {
            var failure: Errno?
            let piece = [UInt8](unsafeUninitializedCapacity: 1 << 16) { room, count in
                do throws(Errno) {
                    count = try retryingInterrupts { read(file.rawValue, room.baseAddress, room.count) }
                } catch {
                    failure = error
                }
            }
            if let failure { throw failure }
            if piece.isEmpty { return String(decoding: bytes, as: UTF8.self) }
            bytes += piece
        }
    }

    /// The mount of the town's root, which comes first, and those on it, and on those.
    private static func parts(of table: String, in root: Descriptor) -> [Part] {
        guard let top = try? ExtendedStatus(of: root.rawValue).mount else { return [] }
        let path = withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(PATH_MAX)) { room in
            let count = readlink("/proc/self/fd/\(root.rawValue)", room.baseAddress!, room.count)
            return String(decoding: room.prefix(max(0, count)).lazy.map(UInt8.init(bitPattern:)), as: UTF8.self)
        }
        // ID, parent, device, root, mountpoint, …
        let mounts = table.split(separator: "\n").map { $0.split(separator: " ") }.filter { $0.count > 5 }
        guard let own = mounts.first(where: { $0[0] == "\(top)" }) else { return [] }
        let inMount = own[4] == "/" ? Substring(path) : Substring(path).dropFirst(unescaped(own[4]).count)
        let townRoot = (own[3] == "/" ? "" : unescaped(own[3])) + inMount
        var parts = [Part(device: own[2], root: Substring(townRoot.isEmpty ? "/" : townRoot), place: "")]
        var reached: Set<Substring> = [own[0]]
        // A mount comes after the one that it is on.
        for mount in mounts where reached.contains(mount[1]) {
            let place = unescaped(mount[4])
            guard place.hasPrefix(path + "/") else { continue }
            reached.insert(mount[0])
            parts.append(
                Part(
                    device: mount[2], root: Substring(unescaped(mount[3])),
                    place: String(place.dropFirst(path.count + 1))))
        }
        return parts
    }

    /// White space and backslashes are written as three octal digits.
    private static func unescaped(_ field: Substring) -> String {
        var bytes: [UInt8] = []
        var rest = Substring(field).utf8
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "\\"), let code = UInt8(String(Substring(rest.prefix(3))), radix: 8) {
                bytes.append(code)
                rest = rest.dropFirst(3)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

extension Substring {
    /// Of paths.
    fileprivate func isAtOrBelow(_ other: Substring) -> Bool {
        self == other || other == "/" || hasPrefix(other + "/")
    }
}
