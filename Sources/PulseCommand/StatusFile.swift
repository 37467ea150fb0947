import FoundationEssentials
import Glibc
import SystemCalls
import SystemPackage
import TownFS

/// What a mounted town says of itself, read from `.pulse/status.json`.
enum StatusFile {
    enum Outcome: Sendable {
        case text(String)
        /// The mount is there, but whoever served it is not.
        case dead
        /// It is somebody else's mount.
        case denied
        case failed(Errno)
        case silent
    }

    /// How long a town may take to answer.
    static let patience: Duration = .seconds(5)

    static func read(of town: String) throws(Errno) -> Outcome {
        let outcome: Outcome? = try within(patience) {
            do throws(Errno) {
                let file = try OwnedDescriptor(opening: town + "/.pulse/status.json", in: AT_FDCWD, O_RDONLY)
                return .text(try file.readToEnd())
            } catch .socketNotConnected, .connectionAbort {
                return .dead
            } catch .permissionDenied {
                return .denied
            } catch {
                return .failed(error)
            }
        }
        return outcome ?? .silent
    }

    /// Decodes the text.
    ///
    /// Keys that a newer worker adds are passed over.
    static func decode(_ text: String) -> TownStatus? {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try? decoder.decode(TownStatus.self, from: Data(text.utf8))
    }
}
