import Glibc
import Linux
import SystemPackage
import TownFS

/// `.pulse/status.json` of a mounted town.
enum StatusFile {
    /// How long a town may take to answer.
    static let timeout: Duration = .seconds(5)

    static func read(of town: String) throws(Errno) -> TownAnswer<String> {
        try .ask { () throws(Errno) in
            try OwnedDescriptor(opening: town + "/.pulse/status.json", in: AT_FDCWD, O_RDONLY).readToEnd()
        }
    }

    /// Nil if the text cannot be decoded.
    ///
    /// Keys of a newer worker are ignored.
    static func decode(_ text: String) -> TownStatus? {
        JSONText.decode(text)
    }
}

/// For tests, which import only this module.
typealias JSONText = TownFS.JSONText
