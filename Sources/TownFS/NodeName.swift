import Fuse

/// A file name that outlives the request it came with: its bytes and a terminating NUL, ready for system calls.
struct NodeName: Hashable, Sendable {
    private let terminated: [CChar]

    init(_ name: FileName) {
        terminated = Array(UnsafeBufferPointer(start: name.pointer, count: name.bytes.count + 1))
    }

    /// `bytes` hold no NUL.
    init(_ bytes: some Sequence<UInt8>) {
        terminated = bytes.map(CChar.init(bitPattern:)) + [0]
    }

    func withPointer<Result: ~Copyable, Failure: Error>(
        _ body: (UnsafePointer<CChar>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        let span = terminated.span
        return try span.withUnsafeBufferPointer { (name) throws(Failure) in
            // because the array is never empty.
            try body(name.baseAddress!)
        }
    }

    /// The bytes without the NUL.
    var bytes: [UInt8] { terminated.dropLast().map(UInt8.init(bitPattern:)) }
}
