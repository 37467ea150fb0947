import FoundationEssentials
import Glibc
import SystemPackage

/// A file written and read with the system calls of Go's `os.WriteFile` and `os.ReadFile`, and no others.
struct GoFile {
    private let path: FilePath

    init(_ path: String) {
        self.path = FilePath(path)
    }

    /// Truncates or creates the file and writes `document` in one piece.
    func write(_ document: [UInt8]) throws {
        let descriptor = try FileDescriptor.open(
            path, .writeOnly, options: [.create, .truncate, .closeOnExec], permissions: FilePermissions(rawValue: 0o644)
        )
        _ = try descriptor.closeAfter { try descriptor.writeAll(document) }
    }

    /// Reads to the end of the file; as in Go, the size from fstat(2) is only a hint for the buffer.
    func read() throws -> [UInt8] {
        let descriptor = try FileDescriptor.open(path, .readOnly, options: .closeOnExec)
        return try descriptor.closeAfter {
            var attributes = stat()
            guard fstat(descriptor.rawValue, &attributes) == 0 else { throw Errno(rawValue: errno) }
            var bytes = [UInt8](repeating: 0, count: max(attributes.st_size + 1, 512))
            var end = 0
            while case let count = try bytes.withUnsafeMutableBytes({
                try descriptor.read(into: UnsafeMutableRawBufferPointer(rebasing: $0[end...]))
            }), count > 0 {
                end += count
                if end == bytes.count { bytes.append(contentsOf: repeatElement(0, count: bytes.count)) }
            }
            bytes.removeSubrange(end...)
            return bytes
        }
    }

    /// Opens the file for reading and closes it.
    func openAndClose() throws { try FileDescriptor.open(path, .readOnly, options: .closeOnExec).close() }
}

/// Reads a whole file; an error names it.
func readFile(_ path: String) throws -> [UInt8] {
    do { return try GoFile(path).read() } catch { throw BenchFailure("cannot read \(path)", error) }
}

func readText(_ path: String) throws -> String { String(decoding: try readFile(path), as: UTF8.self) }

/// Replaces a file's content; an error names it.
func writeFile(_ path: String, _ bytes: some Sequence<UInt8>) throws {
    do { try GoFile(path).write(Array(bytes)) } catch { throw BenchFailure("cannot write \(path)", error) }
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

/// Makes a directory, and removes it with its content after `body`.
///
/// If something is still mounted in it, the directory stays and is named on standard error.
func withScratchDirectory<Result>(in parent: String, body: (String) throws -> Result) throws -> Result {
    var template = Array("\(try realPath(parent))/pulsefs-bench.XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw BenchFailure("cannot make \(parent)/…", Errno(rawValue: errno)) }
    let directory = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }  // because it is not empty
    defer {
        do {
            guard try !Mount.all().contains(where: { $0.mountpoint.hasPrefix(directory + "/") }) else {
                throw BenchFailure("something is mounted in it")
            }
            try FileManager.default.removeItem(atPath: directory)
        } catch {
            warn("\(directory) stays behind: \(error)")
        }
    }
    return try body(directory)
}
