/// A directory of runtime ids, and the names of ids in it, as under `.pulse`.
///
/// An id is shown as a path. Where it cannot be one, its bytes are percent-encoded, so percent-decoding a path gives
/// the id:
///
///     gastown/polecats/nux      gastown/polecats/nux
///     Jane's agent              Jane's agent
///     100%                      100%25
///     /home/x/agent             %2Fhome/x/agent
///     a//b/                     a/%2Fb%2F
///     ../a/.                    %2E%2E/a/%2E
///     bob@                      bob%40
///
/// A slash separates two names if it has another character than a slash before it, and anything after it; other slashes
/// belong to a name. A name shows `%`, its slashes, and an `@` at its end encoded; `.` and `..` with encoded dots.
///
/// Each id has one path, and each path leads to one id: a name that is encoded otherwise (`%2f`, `%41`) names nothing.
package struct RuntimeDirectory: Hashable, Sendable {
    /// The text that all ids in it begin with: empty, or ending in a slash.
    package let prefix: String

    package static let top = RuntimeDirectory(validated: "")

    /// A prefix that was valid before.
    package init(validated prefix: String) {
        self.prefix = prefix
    }

    package static func == (one: Self, other: Self) -> Bool { one.prefix.hasSameBytes(as: other.prefix) }

    package func hash(into hasher: inout Hasher) { prefix.hashBytes(into: &hasher) }

    private static let slash = UInt8(ascii: "/")

    // MARK: Paths

    /// The encoded names that lead to it.
    package var names: [String] { prefix.isEmpty ? [] : Self.names(in: String(prefix.unicodeScalars.dropLast())) }

    /// The encoded names that lead to an id.
    static func names(in id: String) -> [String] {
        var names: [String] = []
        var rest = id.utf8[...]
        while let slash = separator(in: rest) {
            names.append(encoded(rest[..<slash]))
            rest = rest[id.utf8.index(after: slash)...]
        }
        return names + [encoded(rest)]
    }

    /// The first slash that separates two names.
    static func separator(in text: Substring.UTF8View) -> Substring.UTF8View.Index? {
        guard let start = text.firstIndex(where: { $0 != slash }) else { return nil }
        guard let separator = text[start...].firstIndex(of: slash), text.index(after: separator) < text.endIndex else {
            return nil
        }
        return separator
    }

    private static func encoded(_ name: Substring.UTF8View) -> String {
        let isDots = name.elementsEqual(".".utf8) || name.elementsEqual("..".utf8)
        let endsInAt = name.last == UInt8(ascii: "@")
        guard isDots || endsInAt || name.contains(where: { $0 == slash || $0 == UInt8(ascii: "%") }) else {
            return String(Substring(name))
        }
        var bytes: [UInt8] = []
        for byte in endsInAt ? name.dropLast() : name {
            switch byte {
            case UInt8(ascii: "%"): bytes += "%25".utf8
            case slash: bytes += "%2F".utf8
            case UInt8(ascii: ".") where isDots: bytes += "%2E".utf8
            default: bytes.append(byte)
            }
        }
        return String(decoding: endsInAt ? bytes + "%40".utf8 : bytes, as: UTF8.self)
    }

    // MARK: What is in it

    /// The runtime whose id it has; nil for the top directory, and if its name is no id.
    package var id: RuntimeID? { try? RuntimeID(String(prefix.unicodeScalars.dropLast())) }

    /// The id with an encoded name; nil if no id is encoded so.
    ///
    /// - Throws: Why it is not an id.
    package func id(named name: String) throws(RuntimeID.Invalid) -> RuntimeID? {
        guard let text = text(named: name) else { return nil }
        return try RuntimeID(text)
    }

    /// The directory with an encoded name; nil if none is encoded so.
    ///
    /// One with a slash at the end of its name has an id, and contains no other.
    package func directory(named name: String) throws(RuntimeID.Invalid) -> RuntimeDirectory? {
        guard let text = text(named: name) else { return nil }
        try RuntimeID.check(text)
        return RuntimeDirectory(validated: text + "/")
    }

    /// Whether ids may be in it.
    package var mayContainIDs: Bool { !prefix.hasBytes(atEnd: "//") }

    private func text(named name: String) -> String? {
        guard mayContainIDs, let decoded = Self.decoded(name), !decoded.isEmpty,
            Self.separator(in: decoded.utf8[...]) == nil, Self.encoded(decoded.utf8[...]).hasSameBytes(as: name)
        else { return nil }
        return prefix + decoded
    }

    private static func decoded(_ name: String) -> String? {
        guard name.utf8.contains(UInt8(ascii: "%")) else { return name }
        return name.percentDecoded.flatMap { String(validating: $0, as: UTF8.self) }
    }

    // MARK: Ancestors

    /// It and the directories that it is in, without the top directory, from there on.
    package var lineage: [RuntimeDirectory] {
        var lineage: [RuntimeDirectory] = []
        var directory = RuntimeDirectory.top
        while let next = directory.child(towards: prefix + "x") {
            lineage.append(next)
            directory = next
        }
        return lineage
    }

    /// The directory in it that contains an id; nil if the id lies in it, or elsewhere.
    package func child(towards id: String) -> RuntimeDirectory? {
        guard id.hasBytes(atStart: prefix), let slash = Self.separator(in: id.utf8.dropFirst(prefix.utf8.count)) else {
            return nil
        }
        // Not `id[...slash]`, which would end with the character that begins with the slash.
        return RuntimeDirectory(validated: String(id[..<id.utf8.index(after: slash)]))
    }
}

extension RuntimeID {
    /// The encoded names that lead to it under `.pulse`; see `RuntimeDirectory`.
    package var names: [String] { RuntimeDirectory.names(in: description) }
}
