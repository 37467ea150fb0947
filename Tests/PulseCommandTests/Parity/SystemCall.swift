import CLinux
import CSystemCall
import Glibc
import SystemPackage

/// Makes a raw system call.
///
/// Does not repeat interrupted calls: nothing here blocks, and no handler is installed.
///
/// The corresponding C function is `syscall`.
@discardableResult
func systemCall(_ number: CInt, _ arguments: Int...) throws(Errno) -> Int {
    try systemCall(number, arguments)
}

@discardableResult
func systemCall(_ number: CInt, _ arguments: [Int]) throws(Errno) -> Int {
    func argument(_ index: Int) -> Int { index < arguments.count ? arguments[index] : 0 }
    let result = csystemcall(
        Int(number), argument(0), argument(1), argument(2), argument(3), argument(4), argument(5))
    guard result >= 0 else { throw Errno(rawValue: CInt(-result)) }
    return result
}

extension Errno {
    /// The name in the man pages: `ENOENT`.
    var name: String {
        strerrorname_np(rawValue).map { String(cString: $0) } ?? "errno \(rawValue)"
    }
}

/// The file argument of a system call: a path, relative to a directory, or a descriptor.
struct FilePlace {
    /// `AT_FDCWD` if the path does not begin at a descriptor.
    let directory: Int
    /// Ends with a NUL.
    let path: [UInt8]
    /// Without a path: the call is for the descriptor, as fchmod(2) is.
    let isDescriptor: Bool

    init(descriptor: Int) {
        directory = descriptor
        path = [0]
        isDescriptor = true
    }

    init(_ path: some Sequence<UInt8>, in directory: Int = Int(AT_FDCWD)) {
        self.directory = directory
        self.path = path + [0]
        isDescriptor = false
    }

    init(_ path: String) { self.init(path.utf8) }

    /// For calls without a directory argument.
    var withoutDirectory: FilePlace {
        if isDescriptor || directory == Int(AT_FDCWD) { return self }
        return FilePlace("/proc/self/fd/\(directory)/".utf8 + path.dropLast())
    }

    /// Added to the flags of a call that accepts both.
    var emptyPathFlag: Int { isDescriptor ? Int(AT_EMPTY_PATH) : 0 }

    func withAddress<Result>(_ body: (Int) throws -> Result) throws -> Result {
        try PulseCommandTests.withAddress(of: path, body)
    }
}

/// Calls `body` with the address of bytes for a system call.
func withAddress<Result>(of bytes: [UInt8], _ body: (Int) throws -> Result) throws -> Result {
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, bytes.count), alignment: 16)
    defer { buffer.deallocate() }
    buffer.copyBytes(from: bytes)
    return try body(Int(bitPattern: buffer.baseAddress))
}

/// The bytes that a system call filled in.
func bytes(room: Int, _ fill: (Int) throws -> Int) throws -> [UInt8] {
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, room), alignment: 16)
    defer { buffer.deallocate() }
    let count = try fill(Int(bitPattern: buffer.baseAddress))
    return Array(buffer.prefix(count))
}

/// A C value that a system call reads or fills in.
@discardableResult
func filling<Value: BitwiseCopyable>(_ value: inout Value, _ body: (Int) throws -> Int) throws -> Int {
    try withUnsafeMutablePointer(to: &value) { try body(Int(bitPattern: $0)) }
}
