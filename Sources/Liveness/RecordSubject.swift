/// What a record is about.
public enum RecordSubject: Hashable, Sendable {
    case runtime(RuntimeID)
    case signal(SignalPath)
}

/// The path of a signal file in its town, as a key: an array of bytes would hash them one by one.
public struct SignalPath: Hashable, Sendable {
    public let bytes: [UInt8]

    public init(bytes: [UInt8]) {
        self.bytes = bytes
    }

    @inline(__always)
    public static func == (one: SignalPath, other: SignalPath) -> Bool {
        one.bytes.withUnsafeBytes { one in other.bytes.withUnsafeBytes { one.holdsSame(as: $0) } }
    }

    /// Other in every process, and quick, as every touch asks for it.
    @inline(__always)
    public var hashValue: Int { SeededHash.hash(bytes) }

    public func hash(into hasher: inout Hasher) { hasher.combine(hashValue) }
}

extension Touch {
    /// The one thing it is about, if it is about only one.
    var subject: RecordSubject? {
        switch (signal, runtime) {
        case (let signal?, nil): .signal(SignalPath(bytes: signal))
        case (nil, let runtime?): .runtime(runtime)
        case (nil, nil), (_?, _?): nil
        }
    }
}
