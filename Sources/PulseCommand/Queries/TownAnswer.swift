import CLinux
import Fuse
import Glibc
import Linux
import SystemPackage

/// What came of asking a mounted town for something.
///
/// A town whose worker is stuck answers nothing, and whoever asks it waits in the kernel: so it is asked on a thread of
/// its own, and not waited for longer than `patience`.
enum TownAnswer<Value: Sendable>: Sendable {
    case value(Value)
    /// The mount is there, but whoever served it is not.
    case dead
    /// It is somebody else's mount.
    case denied
    case failed(Errno)
    case silent

    static func ask(
        within patience: Duration = StatusFile.patience, _ body: @escaping @Sendable () throws(Errno) -> Value
    ) throws(Errno) -> TownAnswer {
        let answer: TownAnswer? = try Linux.within(patience) {
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

    /// The value, or else what a person has to know.
    func get(from mount: MountEntry) throws -> Value {
        switch self {
        case .value(let value): return value
        case .dead:
            throw Failure(
                "\(mount.town) is mounted, but nobody serves it any more. 'pulsefs mount \(mount.town)' heals it.",
                .couldNotTell)
        case .denied: throw Failure("\(mount.town) was mounted by another user.", .couldNotTell)
        case .failed(let error): throw Failure("\(mount.town) answers with an error: \(error)", .couldNotTell)
        case .silent: throw Failure("\(mount.town) does not answer within \(StatusFile.patience).", .couldNotTell)
        }
    }
}

extension OwnedDescriptor {
    /// Opens a directory of a mount's `.pulse`.
    ///
    /// ENODEV when the mount has gone meanwhile, and something real is there by that name.
    init(openingPulse name: String, of mount: MountEntry) throws(Errno) {
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
