import CLinux
import Glibc
import SystemPackage

extension Interpreter {
    /// Calls that execute a file.
    func programCall(_ verb: String) throws -> String? {
        switch verb {
        case "program":
            // A copy of a small program, which the kernel executes in place.
            let (place, program) = (try place(), "/bin/\(try word().text)")
            let source = try open(FilePlace(program), Int(O_RDONLY))
            defer { _ = try? systemCall(SYS_close, source) }
            let copy = try open(place, Int(O_WRONLY | O_CREAT | O_EXCL), mode: 0o755)
            defer { _ = try? systemCall(SYS_close, copy) }
            while try systemCall(SYS_sendfile, copy, source, 0, 1 << 20) > 0 {}
            return "ok"
        case "execute":
            let program = try spawn(bytes(), input: "/dev/null")
            var status: CInt = 0
            waitpid(program, &status, 0)
            return status & 0x7f == 0 ? "status \(status >> 8 & 0xff)" : "signal \(status & 0x7f)"
        case "run":
            // It runs until its input ends, when the descriptor is closed.
            let path = try bytes()
            var ends: (CInt, CInt) = (0, 0)
            try filling(&ends) { ends in try systemCall(SYS_pipe2, ends, Int(O_CLOEXEC)) }
            defer { _ = try? systemCall(SYS_close, Int(ends.0)) }
            do {
                programs[Int(ends.1)] = try spawn(path, input: "/proc/self/fd/\(ends.0)")
            } catch {
                _ = try? systemCall(SYS_close, Int(ends.1))
                throw error
            }
            return try keep(Int(ends.1))
        default: return nil
        }
    }

    private func spawn(_ path: [UInt8], input: String) throws -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, input, O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0)
        let name = strdup("program")
        defer { free(name) }
        var pid = pid_t()
        let failure = (path + [0]).withUnsafeBufferPointer { bytes in
            bytes.withMemoryRebound(to: CChar.self) { path in
                // because it is the buffer of a non-empty array.
                posix_spawn(&pid, path.baseAddress!, &actions, nil, [name, nil], [nil])
            }
        }
        guard failure == 0 else { throw Errno(rawValue: failure) }
        return pid
    }
}
