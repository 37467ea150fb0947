import CLinux
import CSystemCall
import Glibc
import SystemPackage

extension Interpreter {
    /// Calls on open files: open, close, seek, lock.
    func descriptorCall(_ verb: String) throws -> String? {
        switch verb {
        case "open":
            let (place, flags) = (try place(), try number())
            return try keep(open(place, flags, mode: self.flags()))
        case "create":
            let (place, mode) = (try place(), try number())
            return try keep(open(place, Int(O_CREAT | O_WRONLY | O_TRUNC | O_NONBLOCK), mode: mode))
        case "close":
            let name = try name()
            if let mapping = mappings.removeValue(forKey: name) {
                try systemCall(SYS_munmap, mapping.address, mapping.length)
            } else {
                try close(name)
            }
            return "ok"
        case "dup": return try keep(systemCall(SYS_fcntl, descriptor(), Int(F_DUPFD_CLOEXEC), 0))
        case "lseek": return "\(try systemCall(SYS_lseek, descriptor(), number(), number()))"
        case "fsync": return try ok(systemCall(SYS_fsync, descriptor()))
        case "fdatasync": return try ok(systemCall(SYS_fdatasync, descriptor()))
        case "syncfs": return try ok(systemCall(SYS_syncfs, descriptor()))
        case "flock": return try ok(systemCall(SYS_flock, descriptor(), number()))
        case "fcntl":
            let (descriptor, command) = (try descriptor(), try number())
            let answer = try systemCall(SYS_fcntl, descriptor, command, flags())
            // Without O_LARGEFILE, which the kernel adds.
            return command == Int(F_GETFL) ? "0" + String(answer & ~0o10_0000, radix: 8) : "\(answer)"
        case "setlk": return try lock(command: 37 /* F_OFD_SETLK */)
        case "getlk": return try lock(command: 36 /* F_OFD_GETLK */)
        case "bind", "connect": return try socketCall(verb)
        default: return nil
        }
    }

    func ok(_ result: Int) -> String { "ok" }

    /// `setlk @a F_WRLCK START LENGTH`: open file description locks, as all calls come from one process.
    private func lock(command: Int) throws -> String {
        let descriptor = try descriptor()
        var lock = flock()
        lock.l_type = Int16(try number())
        lock.l_whence = Int16(SEEK_SET)
        lock.l_start = try number()
        lock.l_len = try number()
        try filling(&lock) { lock in try systemCall(SYS_fcntl, descriptor, command, lock) }
        guard command == 36 else { return "ok" }
        let types: [Int16: String] = [0: "F_RDLCK", 1: "F_WRLCK", 2: "F_UNLCK"]
        return "\(types[lock.l_type] ?? "?") \(lock.l_start) \(lock.l_len)"
    }

    /// `@s = bind PATH`, which also listens, and `connect PATH`.
    private func socketCall(_ verb: String) throws -> String {
        let path = try bytes()
        var address: [UInt8] = withUnsafeBytes(of: sa_family_t(AF_UNIX)) { Array($0) }
        address += path + [0]
        let socket = try systemCall(SYS_socket, Int(AF_UNIX), Int(SOCK_STREAM.rawValue) | Int(SOCK_CLOEXEC.rawValue), 0)
        do {
            try withAddress(of: address) { bytes in
                _ = try systemCall(verb == "bind" ? SYS_bind : SYS_connect, socket, bytes, address.count)
            }
            if verb == "bind" { try systemCall(SYS_listen, socket, 5) }
        } catch {
            try systemCall(SYS_close, socket)
            throw error
        }
        return try keep(socket)
    }
}
