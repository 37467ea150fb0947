import Glibc

/// The id of a runtime: `mayor`, `gastown/polecats/furiosa`, a UUID, a session name, `Jane's agent`.
///
/// Any printable text. The names between its slashes have at most 255 bytes, and `RuntimeDirectory` tells how `.pulse`
/// shows it. Two ids are the same if their bytes are: case counts, and so does the Unicode normalization form.
public struct RuntimeID: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// In bytes: PATH_MAX.
    public static let maximumLength = 4096
    /// In bytes: NAME_MAX.
    public static let maximumNameLength = 255

    public let description: String

    public enum Invalid: Error, Hashable, CustomStringConvertible {
        case empty
        case blank
        case tooLong
        case nameTooLong
        /// `.pulse` would need a longer file name than NAME_MAX for it.
        case encodedNameTooLong
        case notUTF8
        case forbidden(Unicode.Scalar)

        public var description: String {
            switch self {
            case .empty: "A runtime id must not be empty."
            case .blank: "A runtime id must not consist of white space."
            case .tooLong: "A runtime id must not be longer than \(maximumLength) bytes."
            case .nameTooLong: "A name in a runtime id must not be longer than \(maximumNameLength) bytes."
            case .encodedNameTooLong:
                "A name in a runtime id must not be longer than \(maximumNameLength) bytes with its % and outer / written as %25 and %2F."
            case .notUTF8: "A runtime id must be UTF-8."
            case .forbidden(let scalar):
                "A runtime id must not contain control characters, such as U+\(scalar.value.padded(to: 4, radix: 16).uppercased())."
            }
        }
    }

    public init(_ id: String) throws(Invalid) {
        guard !id.isEmpty else { throw .empty }
        try Self.check(id)
        guard !id.unicodeScalars.allSatisfy(\.properties.isWhitespace) else { throw .blank }
        description = id
    }

    public init(bytes: some Collection<UInt8>) throws(Invalid) {
        guard bytes.count <= Self.maximumLength else { throw .tooLong }
        guard let id = String(validating: bytes, as: UTF8.self) else { throw .notUTF8 }
        try self.init(id)
    }

    /// An id that was valid before.
    package init(validated bytes: UnsafeRawBufferPointer) {
        description = String(decoding: bytes, as: UTF8.self)
    }

    /// The session of a heartbeat file: `gt-nux` for `.runtime/heartbeats/gt-nux.json`, in the town or in a rig.
    ///
    /// Nil for any other path, and for a session name that is not a valid id.
    public init?(heartbeatPath path: [UInt8]) {
        let names = path.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        let suffix = ".json".utf8
        guard names.count >= 3, let file = names.last, file.suffix(suffix.count).elementsEqual(suffix),
            names[names.count - 2].elementsEqual("heartbeats".utf8),
            names[names.count - 3].elementsEqual(".runtime".utf8)
        else { return nil }
        try? self.init(bytes: file.dropLast(suffix.count))
    }

    // Swift's operators on strings take `é` and `e` with an accent for the same.

    public static func == (one: RuntimeID, other: RuntimeID) -> Bool {
        // Strings of ASCII are compared fastest so; no string of other characters equals one of as many bytes.
        one.description.utf8.count == other.description.utf8.count && one.description == other.description
            && (one.description.isASCII || one.description.hasSameBytes(as: other.description))
    }

    public static func < (first: RuntimeID, second: RuntimeID) -> Bool {
        first.description.hasBytes(before: second.description)
    }

    public func hash(into hasher: inout Hasher) { description.hashBytes(into: &hasher) }

    /// Checks a text that ids may begin with.
    static func check(_ text: String) throws(Invalid) {
        guard text.utf8.count <= maximumLength else { throw .tooLong }
        if let scalar = text.unicodeScalars.first(where: { !isPrintable($0) }) { throw .forbidden(scalar) }
        // Encoding triples a text at most.
        guard text.utf8.count > maximumNameLength / 3 else { return }
        guard text.utf8.split(separator: UInt8(ascii: "/")).allSatisfy({ $0.count <= maximumNameLength }) else {
            throw .nameTooLong
        }
        guard RuntimeDirectory.names(in: text).allSatisfy({ $0.utf8.count <= maximumNameLength }) else {
            throw .encodedNameTooLong
        }
    }

    /// False for control characters, those of bidirectional text included, and for ends of lines: terminals obey them.
    private static func isPrintable(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0..<0x20, 0x7F..<0xA0, 0x061C, 0x200E, 0x200F, 0x2028...0x202E, 0x2066...0x2069: false
        default: true
        }
    }

    /// Whether a name in a Gas Town address, and the name of a town or origin, may contain the byte.
    package static func isAllowedInName(_ byte: UInt8) -> Bool {
        switch Unicode.Scalar(byte) {
        case "A"..."Z", "a"..."z", "0"..."9", "_", ".", "-": true
        default: false
        }
    }
}

// MARK: - Text as bytes

extension String {
    /// In constant time if it is.
    fileprivate var isASCII: Bool { utf8.count == utf16.count }

    private func withBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        utf8.withContiguousStorageIfAvailable { body(UnsafeRawBufferPointer($0)) }
            ?? Array(utf8).withUnsafeBytes(body)
    }

    func hasSameBytes(as other: String) -> Bool {
        withBytes { one in
            other.withBytes { other in
                guard one.count == other.count else { return false }
                guard let (one, other, count) = Self.common(one, other) else { return true }
                return memcmp(one, other, count) == 0
            }
        }
    }

    /// Whether it comes first in the order of the bytes, which is that of the Unicode scalars.
    package func hasBytes(before other: String) -> Bool {
        if isASCII, other.isASCII { return self < other }
        return withBytes { one in
            other.withBytes { other in
                let order = Self.common(one, other).map { memcmp($0, $1, $2) } ?? 0
                return order != 0 ? order < 0 : one.count < other.count
            }
        }
    }

    package func hasBytes(atStart start: String) -> Bool {
        withBytes { one in
            start.withBytes { start in
                guard one.count >= start.count else { return false }
                guard let (one, start, count) = Self.common(one, start) else { return true }
                return memcmp(one, start, count) == 0
            }
        }
    }

    package func hasBytes(atEnd end: String) -> Bool { utf8.suffix(end.utf8.count).elementsEqual(end.utf8) }

    /// For keys of a dictionary that `hasSameBytes` tells apart.
    func hashBytes(into hasher: inout Hasher) {
        withBytes { hasher.combine(bytes: $0) }
        // As a string ends.
        hasher.combine(0xFF as UInt8)
    }

    /// The starts of two texts, and the length of the shorter one; nil if that is 0.
    private static func common(
        _ one: UnsafeRawBufferPointer, _ other: UnsafeRawBufferPointer
    ) -> (UnsafeRawPointer, UnsafeRawPointer, Int)? {
        guard let first = one.baseAddress, let second = other.baseAddress else { return nil }
        return (first, second, Swift.min(one.count, other.count))
    }
}
