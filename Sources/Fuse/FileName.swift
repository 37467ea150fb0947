import Glibc

/// One component of a path as the kernel sent it: 1 to 255 bytes, any but `/` and NUL.
///
/// Borrowed: the bytes belong to the request and are gone when the operation returns. Keep `copy()` instead.
/// Names are bytes; decode them only to show them to a person.
public struct FileName {
    /// The bytes and their terminating NUL, for system calls.
    public let pointer: UnsafePointer<CChar>

    /// Wraps a NUL-terminated string that outlives the value.
    public init(borrowing pointer: UnsafePointer<CChar>) {
        self.pointer = pointer
    }

    /// The bytes without the NUL.
    public var bytes: UnsafeBufferPointer<UInt8> {
        let count = strlen(pointer)
        return UnsafeBufferPointer(start: UnsafeRawPointer(pointer).assumingMemoryBound(to: UInt8.self), count: count)
    }

    /// The bytes without the NUL, owned by the caller.
    public func copy() -> [UInt8] {
        Array(bytes)
    }
}
