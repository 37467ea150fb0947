import CLinux
import CSystemCall
import Glibc
import SystemPackage

extension Interpreter {
    /// Calls that read and change a file's content.
    func dataCall(_ verb: String) throws -> String? {
        switch verb {
        case "read":
            let (file, count) = (try descriptor(), try number())
            return summary(of: try read(count) { room in try systemCall(SYS_read, file, room, count) })
        case "pread":
            let (file, count, offset) = (try descriptor(), try number(), try number())
            return summary(
                of: try read(count) { room in try systemCall(SYS_pread64, file, room, count, offset) })
        case "write":
            let (file, data) = (try descriptor(), try bytes())
            return "\(try write(data, to: file))"
        case "pwrite":
            let (file, data, offset) = (try descriptor(), try bytes(), try number())
            let count = try withAddress(of: data) { try systemCall(SYS_pwrite64, file, $0, data.count, offset) }
            return "\(count)"
        case "append":
            // pwritev2(2) with RWF_APPEND.
            let (file, data, offset) = (try descriptor(), try bytes(), try number())
            let count = try withAddress(of: data) { address in
                var part = (address, data.count)
                return try filling(&part) { try systemCall(SYS_pwritev2, file, $0, 1, offset, offset >> 63, 16) }
            }
            return "\(count)"
        case "put":
            let (place, data) = (try place(), try bytes())
            let file = try open(place, Int(O_CREAT | O_WRONLY | O_TRUNC | O_NONBLOCK), mode: 0o644)
            return try using(file) { file in "\(try self.write(data, to: file))" }
        case "content":
            let file = try open(place(), Int(O_RDONLY | O_NONBLOCK))
            return try using(file) { file in
                summary(of: try self.read(1 << 20) { room in try systemCall(SYS_read, file, room, 1 << 20) })
            }
        case "truncate":
            let (place, size) = (try place(), try number())
            if place.isDescriptor { return ok(try systemCall(SYS_ftruncate, place.directory, size)) }
            return ok(try place.withoutDirectory.withAddress { path in try systemCall(SYS_truncate, path, size) })
        case "fallocate": return try ok(systemCall(SYS_fallocate, descriptor(), number(), number(), number()))
        case "copy":
            // copy_file_range(2): @from OFFSET @to OFFSET COUNT.
            let from = try descriptor()
            var input = try number()
            let to = try descriptor()
            var output = try number()
            let count = try number()
            let copied = try filling(&input) { input in
                try filling(&output) { try systemCall(SYS_copy_file_range, from, input, to, $0, count, 0) }
            }
            return "\(copied)"
        case "sendfile": return "\(try systemCall(SYS_sendfile, descriptor(), descriptor(), 0, number()))"
        case "clone": return try ok(systemCall(SYS_ioctl, descriptor(), Int(csystemcall_ficlone), descriptor()))
        case "fadvise": return try ok(systemCall(SYS_fadvise64, descriptor(), number(), number(), number()))
        default: return try memoryCall(verb)
        }
    }

    // MARK: Mapped memory

    private func memoryCall(_ verb: String) throws -> String? {
        switch verb {
        case "mmap":
            // @a PROT FLAGS OFFSET LENGTH
            let (file, protection, flags) = (try descriptor(), try number(), try number())
            let (offset, length) = (try number(), try number())
            let address = try systemCall(SYS_mmap, 0, length, protection, flags, file, offset)
            return try keep(mapping: address, length: length)
        case "msync":
            let mapping = try mapping()
            return ok(try systemCall(SYS_msync, mapping.address, mapping.length, try number()))
        case "store":
            let (mapping, offset, data) = (try mapping(), try number(), try bytes())
            guard offset + data.count <= mapping.length else { throw malformed("stores behind the mapping") }
            // The kernel copies the bytes, so an access that would be SIGBUS gives EFAULT.
            return try withPipe { pipe in
                try self.write(data, to: pipe.writing)
                return "\(try systemCall(SYS_read, pipe.reading, mapping.address + offset, data.count))"
            }
        case "load":
            let (mapping, offset, count) = (try mapping(), try number(), try number())
            guard offset + count <= mapping.length else { throw malformed("loads behind the mapping") }
            return try withPipe { pipe in
                let count = try systemCall(SYS_write, pipe.writing, mapping.address + offset, count)
                return summary(
                    of: try self.read(count) { room in
                        try systemCall(SYS_read, pipe.reading, room, count)
                    })
            }
        default: return nil
        }
    }

    /// The mapping of the next name; an empty one if there is none.
    private func mapping() throws -> (address: Int, length: Int) {
        let name = try name()
        guard let mapping = mappings[name] else { throw Errno.badAddress }
        return mapping
    }

    private func withPipe(_ body: ((reading: Int, writing: Int)) throws -> String) throws -> String {
        var ends: (CInt, CInt) = (0, 0)
        try filling(&ends) { ends in try systemCall(SYS_pipe2, ends, Int(O_CLOEXEC)) }
        let (reading, writing) = (Int(ends.0), Int(ends.1))
        defer { for end in [reading, writing] { _ = try? systemCall(SYS_close, end) } }
        return try body((reading, writing))
    }

    // MARK: Partial reads and writes

    private func read(_ count: Int, _ fill: (Int) throws -> Int) throws -> [UInt8] {
        try PulseCommandTests.bytes(room: count, fill)
    }

    @discardableResult
    private func write(_ data: [UInt8], to file: Int) throws -> Int {
        try withAddress(of: data) { address in try systemCall(SYS_write, file, address, data.count) }
    }

    /// Closes a file after use and reports the error of close(2).
    private func using(_ file: Int, _ body: (Int) throws -> String) throws -> String {
        let outcome: String
        do {
            outcome = try body(file)
        } catch {
            try systemCall(SYS_close, file)
            throw error
        }
        try systemCall(SYS_close, file)
        return outcome
    }
}
