import Daemon
import Linux
import SystemPackage

/// The town of a command, and its main mount.
struct TownPath {
    /// Absolute, without symbolic links.
    let path: String
    let mount: MountInfo?

    /// Resolves an argument, also if the town's mount is dead.
    init(_ argument: String) throws {
        do throws(Errno) {
            path = try FilePaths.resolved(argument)
        } catch .socketNotConnected where argument.hasPrefix("/"), .connectionAbort where argument.hasPrefix("/") {
            // A dead mount cannot be resolved.
            path = argument.count > 1 && argument.hasSuffix("/") ? String(argument.dropLast()) : argument
        } catch {
            throw Failure("there is no town at \(argument): \(error)")
        }
        mount = try MountTable().town(at: path)
    }
}
