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

    public func hash(into hasher: inout Hasher) {
        bytes.withUnsafeBytes { hasher.combine(bytes: $0) }
    }
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
