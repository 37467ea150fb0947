import Glibc
import SystemPackage

/// Files written and read with the system calls of Go's `os.WriteFile` and `os.ReadFile`, and no others.
///
/// This is what gets measured, so it stays on bare system calls. Go does one thing more: its runtime registers every
/// opened file with epoll. Ordinary files refuse that; a FUSE file accepts it, at the cost of a POLL request. With `polling`
/// the file is asked through poll(2) after the open, which costs the same request.
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

    /// Reads to the end of the file, with the size from fstat(2) only as a hint.
    ///
    /// As in Go, the buffer has one byte more than the file, 512 at least, and grows when it is full; the end is the read that
    /// returns nothing.
    func read() throws(Errno) -> [UInt8] {
        let descriptor = try open(O_RDONLY | O_CLOEXEC)
        defer { close(descriptor) }
        var attributes = stat()
        guard fstat(descriptor, &attributes) == 0 else { throw Errno(rawValue: errno) }
        var bytes = [UInt8](repeating: 0, count: max(attributes.st_size + 1, 512))
        var end = 0
        while true {
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
            var question = pollfd(fd: descriptor, events: Int16(POLLIN | POLLOUT), revents: 0)
            poll(&question, 1, 0)
        }
        return descriptor
    }
}
