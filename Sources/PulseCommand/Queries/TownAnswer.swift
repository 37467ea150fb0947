import CLinux
import Daemon
import Fuse
import Glibc
import Linux
import SystemPackage

/// The answer of a mounted town to a question.
///
/// A call into a mount whose worker hangs blocks in the kernel. So the question is asked on its own thread, with a limit.
enum TownAnswer<Value: Sendable>: Sendable {
    case value(Value)
    /// Keeper and worker are dead.
    case dead
    /// A mount of another user.
    case denied
    case failed(Errno)
    case silent

    static func ask(
        within timeout: Duration = StatusFile.timeout, _ body: @escaping @Sendable () throws(Errno) -> Value
    ) throws(Errno) -> TownAnswer {
        let answer: TownAnswer? = try Linux.within(timeout) {
            do throws(Errno) {
                return .value(try body())
            } catch {
                return TownAnswer(error)
            }
        }
        return answer ?? .silent
    }

    private init(_ error: Errno) {
        switch error {
        case .socketNotConnected, .connectionAbort: self = .dead
        case .permissionDenied: self = .denied
        default: self = .failed(error)
        }
    }

    /// The value; throws a message for the user.
    func get(from mount: MountInfo) throws -> Value {
        switch self {
        case .value(let value): return value
        case .dead:
            throw Failure(
                "\(mount.town) is mounted, but nobody serves it any more. 'pulsefs mount \(mount.town)' repairs it.",
                .couldNotTell)
        case .denied: throw Failure("\(mount.town) was mounted by another user.", .couldNotTell)
        case .failed(let error): throw Failure("\(mount.town) answers with an error: \(error)", .couldNotTell)
        case .silent: throw Failure("\(mount.town) does not answer within \(StatusFile.timeout).", .couldNotTell)
        }
    }
}

extension OwnedDescriptor {
    /// Opens a directory in `.pulse`.
    ///
    /// ENODEV if the mount is gone and this is a directory of the plain town.
    init(openingPulse name: String, of mount: MountInfo) throws(Errno) {
        let directory = try OwnedDescriptor(
            opening: "\(mount.town)/.pulse/\(name)", in: AT_FDCWD, O_RDONLY | O_DIRECTORY)
        var status = FileStatus()
        _ = try retryingInterrupts { fstat(directory.rawValue, &status) }
        guard "\(clinux_major(status.st_dev)):\(clinux_minor(status.st_dev))" == mount.device else {
            throw .operationNotSupportedByDevice
        }
        self = directory
    }
}
