import Glibc
import SystemPackage

/// A file written and read with the system calls of Go's `os.WriteFile` and `os.ReadFile`, and no others.
///
/// These calls are what gets measured. Go's runtime also registers every opened file with epoll: an ordinary file refuses,
/// a FUSE file accepts at the cost of a POLL request. With `polling` the file is passed to poll(2), which costs the same.
struct GoFile {
    let path: String
    var polling = false

    /// Truncates or creates the file and writes `document` in one piece.
    func write(_ document: [UInt8]) throws(Errno) {
        let descriptor = try open(O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC)
        let written = document.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
        let writeError = written < 0 ? Errno(rawValue: errno) : nil
        let closed = close(descriptor)
        let closeError = closed < 0 ? Errno(rawValue: errno) : nil
        if let error = writeError ?? closeError { throw error }
        guard written == document.count else { throw .ioError }
    }

    /// Reads to the end of the file; as in Go, the size from fstat(2) is only a hint for the buffer.
    func read() throws(Errno) -> [UInt8] {
        let descriptor = try open(O_RDONLY | O_CLOEXEC)
        defer { close(descriptor) }
        var attributes = stat()
        guard fstat(descriptor, &attributes) == 0 else { throw Errno(rawValue: errno) }
        var bytes = [UInt8](repeating: 0, count: max(attributes.st_size + 1, 512))
        var end = 0
        while true {
            // `!` because the buffer is never empty.
            let count = bytes.withUnsafeMutableBytes { Glibc.read(descriptor, $0.baseAddress! + end, $0.count - end) }
            if count < 0 { throw Errno(rawValue: errno) }
            if count == 0 { break }
            end += count
            if end == bytes.count { bytes.append(contentsOf: repeatElement(0, count: bytes.count)) }
        }
        bytes.removeSubrange(end...)
        return bytes
    }

    /// Opens the file for reading and closes it.
    func openAndClose() throws(Errno) {
        guard close(try open(O_RDONLY | O_CLOEXEC)) == 0 else { throw Errno(rawValue: errno) }
    }

    private func open(_ flags: Int32) throws(Errno) -> Int32 {
        let descriptor = Glibc.open(path, flags, 0o644)
        guard descriptor >= 0 else { throw Errno(rawValue: errno) }
        if polling {
            var request = pollfd(fd: descriptor, events: Int16(POLLIN | POLLOUT), revents: 0)
            poll(&request, 1, 0)
        }
        return descriptor
    }
}

/// Reads a whole file; an error names it.
func readFile(_ path: String) throws -> [UInt8] {
    do { return try GoFile(path: path).read() } catch { throw BenchFailure("cannot read \(path)", error) }
}

func readText(_ path: String) throws -> String { String(decoding: try readFile(path), as: UTF8.self) }

/// Replaces a file's content; an error names it.
func writeFile(_ path: String, _ bytes: some Sequence<UInt8>) throws {
    do { try GoFile(path: path).write(Array(bytes)) } catch { throw BenchFailure("cannot write \(path)", error) }
}

/// The corresponding C function is `realpath`.
func realPath(_ path: String) throws -> String {
    guard let resolved = realpath(path, nil) else {
        throw BenchFailure("cannot resolve \(path)", Errno(rawValue: errno))
    }
    defer { free(resolved) }
    return String(cString: resolved)
}

/// Makes a directory and returns its path.
@discardableResult
func makeDirectory(_ path: String) throws -> String {
    guard mkdir(path, 0o755) == 0 else { throw BenchFailure("cannot make \(path)", Errno(rawValue: errno)) }
    return path
}
