import CLinux
import Glibc
import Linux
import SystemPackage

/// A Redis URL with a password, in memory that is passed from process to process by descriptor.
///
/// So it is in no argument list, in no process's environment for others to read, and in no core file.
final class RedisSecret: Sendable {
    /// The environment variable that a person or a service manager puts it into.
    static let variable = "PULSEFS_REDIS_URL"
    /// No URL is longer.
    private static let largest = 65_536

    let descriptor: OwnedDescriptor

    init(takingOwnershipOf descriptor: consuming OwnedDescriptor) {
        self.descriptor = descriptor
    }

    /// Moves the URL out of the environment of this process, where ps(1) might show it; nil if there is none.
    static func takeFromEnvironment() throws -> RedisSecret? {
        guard let value = getenv(variable), strlen(value) > 0 else { return nil }
        defer {
            // What /proc/PID/environ shows is this very memory.
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

    /// Sees to it that this process and those that it starts leave no core file.
    ///
    /// A limit of 0 would not count where a core is piped into a program; 1 does (core(5)).
    static func keepOutOfCores() throws(Errno) {
        var limit = rlimit(rlim_cur: 1, rlim_max: 1)
        _ = try retryingInterrupts { setrlimit(__rlimit_resource_t(RLIMIT_CORE.rawValue), &limit) }
    }

    func text() throws -> String {
        var bytes = [UInt8](repeating: 0, count: Self.largest)
        let count = try retryingInterrupts { pread(descriptor.rawValue, &bytes, bytes.count, 0) }
        return Self.text(bytes.prefix(count))
    }

    /// Reads a file that holds a URL; it must be nobody else's to read.
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
            throw Failure("\(file) holds a Redis URL and others may read it: chmod 600 \(file).")
        }
        return text(bytes[...])
    }

    private static func text(_ bytes: ArraySlice<UInt8>) -> String {
        let text = bytes.drop { $0 <= 0x20 }.reversed().drop { $0 <= 0x20 }.reversed()
        return String(decoding: text, as: UTF8.self)
    }
}
