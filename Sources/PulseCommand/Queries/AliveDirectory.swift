import CLinux
import Glibc
import Linux
import Liveness
import SystemPackage

/// Touches and forgets runtimes of a mounted town, by its `.pulse`.
///
/// An id is a file there, or a directory if others are beneath it, and that may change at any time; but
/// `gastown@/witness@/@` is the id `gastown/witness` always.
enum AliveDirectory {
    private static let name = "alive"

    /// Touches a runtime.
    ///
    /// - Parameter ttl: As a person writes it, `90s`; nil is the town's own.
    static func touch(_ id: RuntimeID, ttl: String?, of mount: MountEntry) throws(Errno) -> TownAnswer<Void> {
        try .ask { () throws(Errno) in
            try touch(id, ttl: ttl, in: try OwnedDescriptor(openingPulse: name, of: mount))
        }
    }

    private static func touch(
        _ id: RuntimeID, ttl: String?, in top: borrowing OwnedDescriptor
    ) throws(Errno) {
        // Who touches is told by the name of the thread that does.
        clinux_name_this_thread("pulsefs")
        let file = try OwnedDescriptor(opening: path(of: id), in: top.rawValue, O_WRONLY | O_CREAT, mode: 0o644)
        if let ttl {
            let text = ttl + "\n"
            _ = try retryingInterrupts { write(file.rawValue, text, text.utf8.count) }
        } else {
            _ = try retryingInterrupts { futimens(file.rawValue, nil) }
        }
        // What was written is judged when it is closed.
        guard close(file.release()) == 0 else { throw .current }
    }

    /// Forgets a runtime; one that is not known is forgotten already.
    static func forget(_ id: RuntimeID, of mount: MountEntry) throws(Errno) -> TownAnswer<Void> {
        try .ask { () throws(Errno) in
            // Not in `alive`, where an expired one is not.
            let runtimes = try OwnedDescriptor(openingPulse: "runtimes", of: mount)
            do throws(Errno) {
                _ = try retryingInterrupts { unlinkat(runtimes.rawValue, "\(id).json", 0) }
            } catch .noSuchFileOrDirectory {}
        }
    }

    private static func path(of id: RuntimeID) -> String {
        id.description.split(separator: "/").map { "\($0)@/" }.joined() + "@"
    }
}
