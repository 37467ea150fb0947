import Glibc
import Liveness
import SystemCalls
import SystemPackage

/// Touches and forgets runtimes of a mounted town, by its `.pulse/alive`.
///
/// An id with slashes lies in directories there. An id beneath which others are is a directory itself; then the file `@`
/// in it is the id.
enum AliveDirectory {
    /// Touches a runtime.
    ///
    /// - Parameter ttl: As a person writes it, `90s`; nil is the town's own.
    static func touch(_ id: RuntimeID, ttl: String?, of mount: MountEntry) throws(Errno) -> TownAnswer<Void> {
        try .ask { () throws(Errno) in
            let top = try OwnedDescriptor(openingPulse: "alive", of: mount)
            try makeDirectories(of: id, in: top)
            let file = try makeFile(of: id, in: top)
            if let ttl {
                let text = ttl + "\n"
                _ = try retryingInterrupts { write(file.rawValue, text, text.utf8.count) }
            } else {
                _ = try retryingInterrupts { futimens(file.rawValue, nil) }
            }
            // What was written is judged when it is closed.
            guard close(file.release()) == 0 else { throw .current }
        }
    }

    private static func makeFile(of id: RuntimeID, in top: borrowing OwnedDescriptor) throws(Errno) -> OwnedDescriptor {
        do throws(Errno) {
            return try OwnedDescriptor(opening: id.description, in: top.rawValue, O_WRONLY | O_CREAT, mode: 0o644)
        } catch .isDirectory {
            return try OwnedDescriptor(opening: "\(id)/@", in: top.rawValue, O_WRONLY | O_CREAT, mode: 0o644)
        }
    }

    private static func makeDirectories(of id: RuntimeID, in top: borrowing OwnedDescriptor) throws(Errno) {
        var path = ""
        for name in id.description.split(separator: "/").dropLast() {
            path += path.isEmpty ? String(name) : "/\(name)"
            do throws(Errno) {
                _ = try retryingInterrupts { mkdirat(top.rawValue, path, 0o755) }
            } catch .fileExists {
                continue
            }
        }
    }

    /// Forgets a runtime; one that is not known is forgotten already.
    static func forget(_ id: RuntimeID, of mount: MountEntry) throws(Errno) -> TownAnswer<Void> {
        try .ask { () throws(Errno) in
            let top = try OwnedDescriptor(openingPulse: "alive", of: mount)
            do throws(Errno) {
                try remove(id.description, in: top)
            } catch .isDirectory {
                try remove("\(id)/@", in: top)
            }
        }
    }

    private static func remove(_ path: String, in top: borrowing OwnedDescriptor) throws(Errno) {
        do throws(Errno) {
            _ = try retryingInterrupts { unlinkat(top.rawValue, path, 0) }
        } catch .noSuchFileOrDirectory, .notDirectory {
            return
        }
    }
}
