import CLinux
import CSystemCall
import Glibc
import SystemPackage

extension Interpreter {
    /// Calls for extended attributes, ACLs and inode flags.
    func attributeCall(_ verb: String) throws -> String? {
        switch verb {
        case "setxattr", "lsetxattr":
            let place = try place(following: verb == "setxattr")
            return ok(try place.setAttribute(FilePlace(bytes()), to: bytes(), flags: flags()))
        case "getxattr", "lgetxattr":
            let place = try place(following: verb == "getxattr")
            return spelled(try place.attribute(FilePlace(bytes()), room: hasMoreWords ? number() : 1 << 16))
        case "listxattr", "llistxattr":
            let place = try place(following: verb == "listxattr")
            let names = try place.attributeNames(room: hasMoreWords ? number() : 1 << 16)
            return names.isEmpty ? "none" : names.map { spelled($0) }.joined(separator: " ")
        case "removexattr", "lremovexattr":
            let place = try place(following: verb == "removexattr")
            return ok(try place.removeAttribute(FilePlace(bytes())))
        case "setfacl":
            let (place, name) = (try place(following: true), try accessListName())
            guard let list = AccessList(try word().text) else { throw malformed("no list of ACL entries") }
            return ok(try place.setAttribute(name, to: list.bytes))
        case "getfacl":
            let (place, name) = (try place(following: true), try accessListName())
            return AccessList.words(of: try place.attribute(name))
        case "lsattr":
            let file = try open(place(), Int(O_RDONLY | O_NONBLOCK))
            defer { _ = try? systemCall(SYS_close, file) }
            return try InodeFlags(of: file).words
        case "chattr":
            let file = try open(place(), Int(O_RDONLY | O_NONBLOCK))
            defer { _ = try? systemCall(SYS_close, file) }
            let change = try word().text
            guard var flags = try InodeFlags(of: file).changed(by: change) else { throw malformed(change) }
            try filling(&flags.word) { try systemCall(SYS_ioctl, file, Int(csystemcall_fs_ioc_setflags), $0) }
            return "ok"
        default: return nil
        }
    }

    private func place(following follows: Bool) throws -> AttributePlace {
        AttributePlace(try place().withoutDirectory, follows: follows)
    }

    private func accessListName() throws -> FilePlace {
        let kind = try word().text
        guard ["access", "default"].contains(kind) else { throw malformed("no kind of ACL: \(kind)") }
        return FilePlace("system.posix_acl_\(kind)")
    }
}

/// The owner of extended attributes.
///
/// Each call has three forms: paths, paths without following the last link, and descriptors.
struct AttributePlace {
    private let place: FilePlace
    private let form: Int

    init(_ place: FilePlace, follows: Bool) {
        self.place = place
        form = place.isDescriptor ? 2 : follows ? 0 : 1
    }

    @discardableResult
    func setAttribute(_ name: FilePlace, to value: [UInt8], flags: Int = 0) throws -> Int {
        let number = [SYS_setxattr, SYS_lsetxattr, SYS_fsetxattr][form]
        return try withAddresses(name) { file, name in
            try withAddress(of: value) { try systemCall(number, file, name, $0, value.count, flags) }
        }
    }

    func attribute(_ name: FilePlace, room: Int = 1 << 16) throws -> [UInt8] {
        let number = [SYS_getxattr, SYS_lgetxattr, SYS_fgetxattr][form]
        return try withAddresses(name) { file, name in
            try bytes(room: room) { try systemCall(number, file, name, $0, room) }
        }
    }

    /// Sorted.
    func attributeNames(room: Int = 1 << 16) throws -> [[UInt8]] {
        let number = [SYS_listxattr, SYS_llistxattr, SYS_flistxattr][form]
        let list = try withAddresses(place) { file, _ in
            try bytes(room: room) { try systemCall(number, file, $0, room) }
        }
        return list.split(separator: 0).map(Array.init).sorted { $0.lexicographicallyPrecedes($1) }
    }

    @discardableResult
    func removeAttribute(_ name: FilePlace) throws -> Int {
        let number = [SYS_removexattr, SYS_lremovexattr, SYS_fremovexattr][form]
        return try withAddresses(name) { try systemCall(number, $0, $1) }
    }

    private func withAddresses<Result>(_ name: FilePlace, _ body: (Int, Int) throws -> Result) throws -> Result {
        try name.withAddress { name in
            if form == 2 { return try body(place.directory, name) }
            return try place.withAddress { try body($0, name) }
        }
    }
}

/// Inode flags, named as by lsattr(1), without those that file systems set themselves.
private struct InodeFlags {
    var word: UInt32 = 0

    private static let letters: [(letter: Character, bit: UInt32)] = [
        ("s", 0x1), ("u", 0x2), ("S", 0x8), ("i", 0x10), ("a", 0x20), ("d", 0x40), ("A", 0x80), ("D", 0x10000),
    ]

    init(of file: Int) throws {
        try filling(&word) { room in
            try systemCall(SYS_ioctl, file, Int(csystemcall_fs_ioc_getflags), room)
        }
    }

    var words: String {
        let letters = Self.letters.filter { word & $0.bit != 0 }.map { $0.letter }
        return letters.isEmpty ? "none" : String(letters)
    }

    /// With a flag added, `+d`, or removed, `-d`.
    func changed(by change: String) -> InodeFlags? {
        guard let bit = Self.letters.first(where: { $0.letter == change.last })?.bit else { return nil }
        var changed = self
        changed.word = change.hasPrefix("+") ? word | bit : word & ~bit
        return changed
    }
}

/// A POSIX ACL as text, `u::rwx,u:alice:r--,g::r-x,m::r-x,o::---`, and as an extended attribute.
struct AccessList {
    let bytes: [UInt8]

    private static let kinds: [(letter: Substring, tag: UInt16, namedTag: UInt16)] = [
        ("u", 0x01, 0x02), ("g", 0x04, 0x08), ("m", 0x10, 0x10), ("o", 0x20, 0x20),
    ]

    /// Keeps the order of entries.
    init?(_ words: String) {
        var bytes: [UInt8] = [2, 0, 0, 0]
        for entry in words.split(separator: ",") {
            let fields = entry.split(separator: ":", omittingEmptySubsequences: false)
            guard fields.count == 3, let kind = Self.kinds.first(where: { $0.letter == fields[0] }) else { return nil }
            let id = fields[1].isEmpty ? UInt32.max : TestUser.id(named: String(fields[1]))
            guard let id else { return nil }
            let rights: UInt16 = zip(fields[2], [4, 2, 1]).reduce(0) { $0 + ($1.0 == "-" ? 0 : $1.1) }
            let tag = fields[1].isEmpty ? kind.tag : kind.namedTag
            bytes += [tag, rights].flatMap { number in withUnsafeBytes(of: number) { Array($0) } }
            bytes += withUnsafeBytes(of: id) { Array($0) }
        }
        self.bytes = bytes
    }

    static func words(of bytes: [UInt8]) -> String {
        var entries: [String] = []
        for start in stride(from: 4, through: bytes.count - 8, by: 8) {
            let (tag, rights) = (UInt16(bytes[start]), bytes[start + 2])
            let id = bytes[start + 4..<start + 8].reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
            let letter = kinds.first { $0.tag == tag || $0.namedTag == tag }?.letter ?? "?"
            let name = id == .max ? "" : TestUser.name(of: id)
            let words = [(4, "r"), (2, "w"), (1, "x")].map { rights & $0.0 != 0 ? $0.1 : "-" }.joined()
            entries.append("\(letter):\(name):\(words)")
        }
        return entries.joined(separator: ",")
    }
}
