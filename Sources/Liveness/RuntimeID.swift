/// Who is alive: `mayor`, `gastown/polecats/furiosa`, a UUID, a session name.
///
/// An id serves as a path beneath `.pulse` and as part of a Redis key, so it is one or more names of `[A-Za-z0-9_.-]`
/// joined by single slashes. Case counts.
public struct RuntimeID: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// Of the whole id, in bytes: what a path may have.
    public static let maximumLength = 4096
    /// Of one name in it, in bytes: what a file name may have.
    public static let maximumNameLength = 255

    /// The id as it was given.
    public let description: String

    /// Why a string is not an id.
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

    public init(_ id: String) throws(Invalid) {
        try self.init(bytes: Array(id.utf8))
    }

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

    /// An id from the bytes of one.
    init(ofKnown bytes: ArraySlice<UInt8>) { description = String(decoding: bytes, as: UTF8.self) }

    /// The session that a heartbeat file belongs to: `gt-nux` for `.runtime/heartbeats/gt-nux.json`.
    ///
    /// The path is relative to the town, and may lead through a rig to the rig's own `.runtime`. Nil for any other
    /// path, and for a session name that is no id.
    public init?(heartbeatPath path: [UInt8]) {
        let names = path.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        let suffix = ".json".utf8
        guard names.count >= 3, let file = names.last, file.suffix(suffix.count).elementsEqual(suffix),
            names[names.count - 2].elementsEqual("heartbeats".utf8),
            names[names.count - 3].elementsEqual(".runtime".utf8)
        else { return nil }
        try? self.init(bytes: file.dropLast(suffix.count))
    }

    /// The directories that the id lies in, outermost first: `a/` and `a/b/` of `a/b/c`.
    var directories: [String] {
        let bytes = description.utf8
        return bytes.indices.filter { bytes[$0] == UInt8(ascii: "/") }.map { String(description[...$0]) }
    }

    public static func < (first: RuntimeID, second: RuntimeID) -> Bool {
        first.description < second.description
    }

    @inline(__always)
    public static func == (one: RuntimeID, other: RuntimeID) -> Bool {
        // Of ASCII, and so the same where the bytes are.
        let isSame = one.description.utf8.withContiguousStorageIfAvailable { one in
            other.description.utf8.withContiguousStorageIfAvailable { other in
                UnsafeRawBufferPointer(one).holdsSame(as: UnsafeRawBufferPointer(other))
            }
        }
        if let isSame, let isSame { return isSame }
        return one.description == other.description
    }

    /// Other in every process, and quick, as every touch asks for it.
    @inline(__always)
    public var hashValue: Int { SeededHash.hash(description) }

    public func hash(into hasher: inout Hasher) { hasher.combine(hashValue) }

    @inline(__always)
    var lastByte: UInt8 { description.utf8.withContiguousStorageIfAvailable { $0[$0.count - 1] } ?? 0 }

    /// Whether an id may contain it, and any other name that stands in keys and paths as it is.
    package static func isAllowed(_ byte: UInt8) -> Bool {
        switch Unicode.Scalar(byte) {
        case "A"..."Z", "a"..."z", "0"..."9", "_", ".", "/", "-": true
        default: false
        }
    }
}
