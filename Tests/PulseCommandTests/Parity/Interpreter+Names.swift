import CLinux
import Glibc
import SystemPackage

extension Interpreter {
    /// Calls that create, rename and remove names.
    func nameCall(_ verb: String) throws -> String? {
        switch verb {
        case "mkdir": return try call(SYS_mkdirat, at: place(), number())
        case "rmdir": return try call(SYS_unlinkat, at: place(), 0x200 /* AT_REMOVEDIR */)
        case "unlink": return try call(SYS_unlinkat, at: place(), 0)
        case "mknod":
            return try makeNode(place(), word().text, mode: number())
        case "make": return try make(place(), word().text, mode: number())
        case "symlink":
            let target = FilePlace(try bytes())
            let link = try place()
            try target.withAddress { target in
                try link.withAddress { path in
                    _ = try systemCall(SYS_symlinkat, target, link.directory, path)
                }
            }
            return "ok"
        case "readlink":
            let link = try place()
            return spelled(
                try link.withAddress { path in
                    try PulseCommandTests.bytes(room: 5000) { room in
                        try systemCall(SYS_readlinkat, link.directory, path, room, 5000)
                    }
                })
        case "link":
            let (file, link) = (try place(), try place())
            let flags = try flags() | file.emptyPathFlag
            return try call(SYS_linkat, file, link, flags)
        case "rename":
            let (file, destination) = (try place(), try place())
            return try call(SYS_renameat2, file, destination, flags())
        case "chdir":
            let descriptor = try open(place(), Int(O_DIRECTORY) | 0o1000_0000 /* O_PATH */)
            do {
                try systemCall(SYS_fchdir, descriptor)
            } catch {
                try systemCall(SYS_close, descriptor)
                throw error
            }
            work(in: descriptor)
            return "ok"
        case "getcwd":
            let path = try PulseCommandTests.bytes(room: 5000) { room in
                try systemCall(SYS_getcwd, room, 5000)
            }
            let text = String(decoding: path.dropLast(), as: UTF8.self)
            return text.hasPrefix(directory) ? "." + text.dropFirst(directory.utf8.count) : text
        default: return nil
        }
    }

    private func call(
        _ number: CInt, _ first: FilePlace, _ second: FilePlace, _ flags: Int
    ) throws -> String {
        try first.withAddress { from in
            try second.withAddress { to in
                _ = try systemCall(number, first.directory, from, second.directory, to, flags)
            }
        }
        return "ok"
    }

    /// `make PATH KIND MODE`: with the call for that kind.
    private func make(_ place: FilePlace, _ kind: String, mode: Int) throws -> String {
        switch kind {
        case "file":
            let file = try open(place, Int(O_CREAT | O_WRONLY | O_EXCL), mode: mode)
            return ok(try systemCall(SYS_close, file))
        case "directory": return try call(SYS_mkdirat, at: place, mode)
        case "symlink":
            let target = FilePlace("target")
            return try target.withAddress { target in
                try place.withAddress { ok(try systemCall(SYS_symlinkat, target, place.directory, $0)) }
            }
        default: return try makeNode(place, kind, mode: mode)
        }
    }

    /// `mknod PATH fifo|socket|file|directory|0|char:MAJOR:MINOR|block:MAJOR:MINOR MODE`.
    private func makeNode(_ place: FilePlace, _ kind: String, mode: Int) throws -> String {
        let words = kind.split(separator: ":")
        let types: [Substring: mode_t] = [
            "fifo": S_IFIFO, "socket": S_IFSOCK, "file": S_IFREG, "directory": S_IFDIR, "char": S_IFCHR,
            "block": S_IFBLK, "0": 0,
        ]
        guard let type = types[words[0]] else { throw malformed("no kind of node: \(kind)") }
        let numbers = words.dropFirst().compactMap { Int($0) }
        let device = numbers.count == 2 ? numbers[0] << 8 | numbers[1] : 0
        return try call(SYS_mknodat, at: place, Int(type) | mode, device)
    }
}
