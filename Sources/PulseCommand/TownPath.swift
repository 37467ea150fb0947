import Glibc
import Linux
import SystemPackage

/// The town that a command is about, and what is mounted there.
struct TownPath {
    /// Absolute, without symbolic links.
    let path: String
    let mount: MountEntry?

    /// Resolves what a person typed.
    ///
    /// Works for a town whose mount is dead, too.
    init(_ typed: String) throws {
        guard let resolved = realpath(typed, nil) else {
            let error = Errno.current
            // A dead mount answers nothing, not even what is a link: then the words have to do.
            if error == .socketNotConnected || error == .connectionAbort, typed.hasPrefix("/") {
                path = typed.count > 1 && typed.hasSuffix("/") ? String(typed.dropLast()) : typed
                mount = try MountTable().town(at: path)
                return
            }
            throw Failure("there is no town at \(typed): \(error)")
        }
        defer { free(resolved) }
        path = String(cString: resolved)
        mount = try MountTable().town(at: path)
    }
}
