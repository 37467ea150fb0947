import CLinux
import Glibc
import Linux
import SystemPackage

/// What only one process of a mount may be at a time.
///
/// The roles are locks on the memory of `SharedState`, which the kernel drops when the last thread of a process has ended.
/// The byte locked is the raw value.
enum Role: off_t {
    /// Reads requests, and writes to the memory.
    case worker
    /// Starts and ends the other processes.
    case keeper

    /// A role that this process has for as long as the object exists.
    final class Held: Sendable {
        private let description: OwnedDescriptor

        fileprivate init(_ description: consuming OwnedDescriptor) { self.description = description }
    }

    /// Takes the role, once the process that has it has ended.
    func take(in state: SharedMemory) throws(Errno) -> Held {
        let description = try Self.description(of: state)
        _ = try retryingInterrupts { clinux_take_byte(description.rawValue, rawValue, 1) }
        return Held(description)
    }

    /// Takes the role; nil if another process has it.
    func takeIfFree(in state: SharedMemory) throws(Errno) -> Held? {
        let description = try Self.description(of: state)
        do throws(Errno) {
            _ = try retryingInterrupts { clinux_take_byte(description.rawValue, rawValue, 0) }
        } catch .resourceTemporarilyUnavailable, .permissionDenied {
            return nil
        }
        return Held(description)
    }

    /// Of its own: processes that share an open file description share its locks.
    private static func description(of state: SharedMemory) throws(Errno) -> OwnedDescriptor {
        try OwnedDescriptor(opening: "/proc/self/fd/\(state.descriptor)", in: AT_FDCWD, O_RDWR)
    }
}
