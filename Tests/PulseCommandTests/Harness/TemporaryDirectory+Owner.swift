import Glibc
import SystemPackage
import TestSupport

extension TemporaryDirectory {
    /// Makes a subdirectory that belongs to a user.
    func directory(_ name: String, owner: Command.User?) throws(Errno) -> String {
        let made = try directory(name)
        if let owner { chown(made, owner.id, owner.group) }
        return made
    }
}
