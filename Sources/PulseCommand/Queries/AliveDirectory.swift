import CLinux
import Daemon
import Glibc
import Linux
import Liveness
import SystemPackage

/// Touches and forgets runtimes through `.pulse` of a mounted town.
///
/// An id is a file there, or a directory if it is a prefix of other ids; that may change at any time. The path
/// `gastown@/witness@/@` always means the id `gastown/witness`.
enum AliveDirectory {
    private static let name = "alive"

    /// Touches a runtime.
    ///
    /// - Parameter ttl: For example `90s`; nil for the default of the town.
    static func touch(_ id: RuntimeID, ttl: String?, of mount: MountInfo) throws(Errno) -> TownAnswer<Void> {
        try .ask { () throws(Errno) in
            try touch(id, ttl: ttl, in: try OwnedDescriptor(openingPulse: name, of: mount))
        }
    }

    private static func touch(
        _ id: RuntimeID, ttl: String?, in top: borrowing OwnedDescriptor
    ) throws(Errno) {
        // The town records the name of the thread as the program.
        clinux_name_this_thread("pulsefs")
        let file = try OwnedDescriptor(opening: path(of: id), in: top.rawValue, O_WRONLY | O_CREAT, mode: 0o644)
        if let ttl {
            let text = ttl + "\n"
            _ = try retryingInterrupts { write(file.rawValue, text, text.utf8.count) }
        } else {
            _ = try retryingInterrupts { futimens(file.rawValue, nil) }
        }
        // The town validates at close(2).
        guard close(file.release()) == 0 else { throw .current }
    }

    /// Forgets a runtime.
    ///
    /// An unknown runtime is no error.
    static func forget(_ id: RuntimeID, of mount: MountInfo) throws(Errno) -> TownAnswer<Void> {
        try .ask { () throws(Errno) in
            // `alive` does not contain expired ones.
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
