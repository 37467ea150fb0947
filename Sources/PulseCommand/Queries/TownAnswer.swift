import CLinux
import Daemon
import Fuse
import Glibc
import Linux
import SystemPackage
import TownFS

/// How long a town may take to answer.
let answerTimeout: Duration = .seconds(5)

/// The answer of a mounted town to a question.
///
/// A call into a mount whose worker hangs blocks in the kernel. So the question is asked on its own thread, with a limit.
enum TownAnswer<Value: Sendable>: Sendable {
    case value(Value)
    /// Keeper and worker are dead.
    case dead
    /// The mount belongs to another user.
    case denied
    case failed(Errno)
    case silent

    static func ask(
        within timeout: Duration = answerTimeout, _ body: @escaping @Sendable () throws(Errno) -> Value
    ) throws(Errno) -> TownAnswer {
        let answer: TownAnswer? = try Linux.within(timeout) {
            do throws(Errno) {
                return .value(try body())
            } catch .socketNotConnected, .connectionAbort {
                return .dead
            } catch .permissionDenied {
                return .denied
            } catch {
                return .failed(error)
            }
        }
        return answer ?? .silent
    }

    /// The value; throws a message for the user.
    ///
    /// - Parameter action: What failed if the town answers with an error, such as `cannot touch mayor`.
    func get(from mount: MountInfo, orFail action: String? = nil) throws -> Value {
        switch self {
        case .value(let value): return value
        case .dead:
            throw Failure(
                "\(mount.town) is mounted, but its keeper and worker have ended. 'pulsefs mount \(mount.town)' repairs it.",
                .couldNotTell)
        case .denied: throw Failure("\(mount.town) was mounted by another user.", .couldNotTell)
        case .failed(let error):
            if let action { throw Failure("\(action): \(error)") }
            throw Failure("\(mount.town) answers with an error: \(error)", .couldNotTell)
        case .silent: throw Failure("\(mount.town) does not answer within \(answerTimeout).", .couldNotTell)
        }
    }
}

extension TownAnswer<TownStatus?> {
    /// The state of a town; its value is nil if this version cannot decode it.
    static func status(of mount: MountInfo) throws(Errno) -> TownAnswer {
        try .ask { () throws(Errno) in JSONText.decode(try mount.statusText()) }
    }
}

extension MountInfo {
    /// The text of `.pulse/status.json`.
    func statusText() throws(Errno) -> String {
        try OwnedDescriptor(opening: town + "/.pulse/status.json", in: AT_FDCWD, O_RDONLY).readToEnd()
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

// MARK: - Long paths

/// Calls `body` with a path and the directory that it is relative to; opens directories on the way to a path that no
/// system call takes, as that of an id may be.
func withShortPath<Result>(
    _ path: String, in directory: CInt, _ body: (String, CInt) throws(Errno) -> Result
) throws(Errno) -> Result {
    let bytes = Array(path.utf8)
    guard bytes.count >= Int(PATH_MAX), let slash = bytes.prefix(Int(PATH_MAX) - 1).lastIndex(of: UInt8(ascii: "/"))
    else { return try body(path, directory) }
    let start = String(decoding: bytes[..<slash], as: UTF8.self)
    let next = try OwnedDescriptor(opening: start, in: directory, O_PATH | O_DIRECTORY)
    return try withShortPath(String(decoding: bytes[(slash + 1)...], as: UTF8.self), in: next.rawValue, body)
}

extension OwnedDescriptor {
    /// Opens a path of any length.
    init(openingLong path: String, in directory: CInt, _ flags: CInt, mode: mode_t = 0) throws(Errno) {
        let descriptor = try withShortPath(path, in: directory) { (path, directory) throws(Errno) in
            try OwnedDescriptor(opening: path, in: directory, flags, mode: mode).release()
        }
        self.init(takingOwnershipOf: descriptor)
    }
}
