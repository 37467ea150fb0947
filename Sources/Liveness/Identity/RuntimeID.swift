/// The id of a runtime: `mayor`, `gastown/polecats/furiosa`, a UUID, a session name.
///
/// One or more names of `[A-Za-z0-9_.-]` joined by single slashes, because ids are paths under `.pulse` and parts of Redis
/// keys. Case-sensitive.
public struct RuntimeID: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// In bytes: PATH_MAX.
    public static let maximumLength = 4096
    /// In bytes: NAME_MAX.
    public static let maximumNameLength = 255

    public let description: String

    public enum Invalid: Error, Hashable, CustomStringConvertible {
        case empty
        case tooLong
        case emptyName
        case nameTooLong
        /// A name is `.` or `..`.
        case dots
        case forbidden(byte: UInt8)

        public var description: String {
            switch self {
            case .empty: "A runtime id must not be empty."
            case .tooLong: "A runtime id must not be longer than \(maximumLength) bytes."
            case .emptyName: "A runtime id must not start or end with a slash, or contain two in a row."
            case .nameTooLong: "A name in a runtime id must not be longer than \(maximumNameLength) bytes."
            case .dots: "A runtime id must not have . or .. for a name."
            case .forbidden(let byte):
                "A runtime id may contain ASCII letters, digits and _ . / - but not byte 0x\(String(byte, radix: 16))."
            }
        }
    }

    public init(_ id: String) throws(Invalid) { try self.init(bytes: Array(id.utf8)) }

    public init(bytes: some Collection<UInt8>) throws(Invalid) {
        guard !bytes.isEmpty else { throw .empty }
        guard bytes.count <= Self.maximumLength else { throw .tooLong }
        if let byte = bytes.first(where: { !Self.isAllowed($0) }) { throw .forbidden(byte: byte) }
        for name in bytes.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false) {
            guard !name.isEmpty else { throw .emptyName }
            guard name.count <= Self.maximumNameLength else { throw .nameTooLong }
            guard !name.elementsEqual(".".utf8), !name.elementsEqual("..".utf8) else { throw .dots }
        }
        description = String(decoding: bytes, as: UTF8.self)
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

    public static func < (first: RuntimeID, second: RuntimeID) -> Bool {
        first.description < second.description
    }

    /// Whether ids, and paths in keys, may contain the byte unescaped.
    static func isAllowed(_ byte: UInt8) -> Bool { byte == UInt8(ascii: "/") || isAllowedInName(byte) }

    /// Whether a name in an id, and the name of a town or origin, may contain the byte.
    package static func isAllowedInName(_ byte: UInt8) -> Bool {
        switch Unicode.Scalar(byte) {
        case "A"..."Z", "a"..."z", "0"..."9", "_", ".", "-": true
        default: false
        }
    }
}
