import Fuse

/// A file name that outlives its request: its bytes, inline up to 22, and a terminating NUL.
struct NodeName: Sendable {
    private enum Storage: Sendable {
        /// Padded with NUL.
        case short([23 of CChar])
        case long([CChar])
    }

    private let storage: Storage

    init(_ name: FileName) { self.init(name.bytes) }

    /// `bytes` hold no NUL.
    init(_ bytes: some Collection<UInt8>) {
        if bytes.count < 23 {
            var short: [23 of CChar] = .init(repeating: 0)
            for (index, byte) in bytes.enumerated() { short[index] = CChar(bitPattern: byte) }
            storage = .short(short)
        } else {
            storage = .long(bytes.map(CChar.init(bitPattern:)) + [0])
        }
    }

    func withPointer<Result: ~Copyable, Failure: Error>(
        _ body: (UnsafePointer<CChar>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        switch storage {
        case .short(let name):
            let span = name.span
            // because both contain at least a NUL.
            return try span.withUnsafeBufferPointer { (name) throws(Failure) in try body(name.baseAddress!) }
        case .long(let name):
            let span = name.span
            return try span.withUnsafeBufferPointer { (name) throws(Failure) in try body(name.baseAddress!) }
        }
    }

    /// The bytes without the NUL.
    var bytes: [UInt8] {
        switch storage {
        case .short(let name): name.indices.lazy.map { UInt8(bitPattern: name[$0]) }.prefix { $0 != 0 }.map { $0 }
        case .long(let name): name.dropLast().map(UInt8.init(bitPattern:))
        }
    }
}

extension NodeName: Hashable {
    static func == (one: NodeName, other: NodeName) -> Bool {
        switch (one.storage, other.storage) {
        case (.short(let one), .short(let other)): one.indices.allSatisfy { one[$0] == other[$0] }
        case (.long(let one), .long(let other)): one == other
        default: false
        }
    }

    func hash(into hasher: inout Hasher) {
        switch storage {
        case .short(let name): name.span.withUnsafeBytes { hasher.combine(bytes: $0) }
        case .long(let name): name.withUnsafeBytes { hasher.combine(bytes: $0) }
        }
    }
}

extension [UInt8] {
    /// The directory part, empty for the town root, and the name in it.
    var parentAndName: (parent: [UInt8], name: NodeName) {
        guard let slash = lastIndex(of: UInt8(ascii: "/")) else { return ([], NodeName(self)) }
        return (Array(self[..<slash]), NodeName(self[index(after: slash)...]))
    }
}

extension [UInt8] {
    /// The 64-bit FNV-1a hash, which is the same in every process.
    package var fnv1a: UInt64 { reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 } }
}
