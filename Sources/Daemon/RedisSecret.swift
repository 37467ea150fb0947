import CLinux
import Glibc
import Linux
import SystemPackage

/// A Redis URL with a password, in a memfd that processes inherit.
///
/// So it appears in no argument list, no environment and no core file.
package final class RedisSecret: Sendable {
    /// The environment variable in which a user or a service manager passes the URL.
    package static let variable = "PULSEFS_REDIS_URL"
    private static let largest = 65_536

    let descriptor: OwnedDescriptor

    init(takingOwnershipOf descriptor: consuming OwnedDescriptor) {
        self.descriptor = descriptor
    }

    /// Moves the URL out of the environment of this process; nil if the variable is not set.
    static func removeFromEnvironment() throws -> RedisSecret? {
        guard let value = getenv(variable), strlen(value) > 0 else { return nil }
        defer {
            // /proc/PID/environ shows this memory.
            memset(value, 0, strlen(value))
            unsetenv(variable)
        }
        try keepOutOfCores()
        let memory = OwnedDescriptor(
            takingOwnershipOf: try retryingInterrupts { memfd_create("pulsefs-redis", UInt32(MFD_CLOEXEC)) })
        let count = strlen(value)
        guard try retryingInterrupts({ pwrite(memory.rawValue, value, count, 0) }) == count else {
            throw Failure("no memory for the Redis URL.")
        }
        return RedisSecret(takingOwnershipOf: memory)
    }

    /// Disables core files of this process and its children.
    ///
    /// A limit of 0 does not apply to cores that are piped into a program; a limit of 1 does (core(5)).
    static func keepOutOfCores() throws(Errno) {
        var limit = rlimit(rlim_cur: 1, rlim_max: 1)
        _ = try retryingInterrupts { setrlimit(__rlimit_resource_t(RLIMIT_CORE.rawValue), &limit) }
    }

    func text() throws -> String {
        var bytes = [UInt8](repeating: 0, count: Self.largest)
        let count = try retryingInterrupts { pread(descriptor.rawValue, &bytes, bytes.count, 0) }
        return Self.trimmed(bytes.prefix(count))
    }

    /// Reads a file that contains a URL; only its owner may have access.
    static func read(file: String) throws -> String {
        var status = Glibc.stat()
        var bytes = [UInt8](repeating: 0, count: largest)
        do throws(Errno) {
            let descriptor = try OwnedDescriptor(opening: file, in: AT_FDCWD, O_RDONLY | O_NONBLOCK)
            _ = try retryingInterrupts { fstat(descriptor.rawValue, &status) }
            guard status.st_mode & S_IFMT == S_IFREG else { throw .invalidArgument }
            let count = try retryingInterrupts { Glibc.read(descriptor.rawValue, &bytes, bytes.count) }
            bytes.removeLast(bytes.count - count)
        } catch {
            throw Failure("cannot read the Redis URL from \(file): \(error).")
        }
        guard status.st_mode & 0o077 == 0 else {
            throw Failure("\(file) contains a Redis URL and other users may read it: chmod 600 \(file).")
        }
        return trimmed(bytes[...])
    }

    private static func trimmed(_ bytes: ArraySlice<UInt8>) -> String {
        let text = bytes.drop { $0 <= 0x20 }.reversed().drop { $0 <= 0x20 }.reversed()
        return String(decoding: text, as: UTF8.self)
    }
}
