import FoundationEssentials
import Glibc
import SystemPackage

/// The `pulsefs` program, called as a person calls it.
struct Pulsefs {
    let program: String
    let supervisor: Supervisor

    /// What the benchmark needs of `pulsefs status --json`.
    struct Status: Decodable {
        let version: String
        let keeperPID: pid_t
        let workerPID: pid_t

        /// The keeper, then the worker.
        var servers: [ServerProcess] { [keeperPID, workerPID].map(ServerProcess.init) }

        enum CodingKeys: String, CodingKey {
            case version
            case keeperPID = "keeper_pid"
            case workerPID = "worker_pid"
        }
    }

    func mount(_ town: String, options: String?) throws {
        // A mount half made would be nobody's to unmount, so a request to stop waits until it stands.
        // Beside the town, which is in a directory of the benchmark's own: nothing is left in the user's.
        try call(["mount", town, "--log", "\(town).log"] + (options.map { ["-o", $0] } ?? []), uninterrupted: true)
    }

    func unmount(_ town: String) throws {
        try call(["unmount", town], uninterrupted: true)
    }

    func status(_ town: String) throws -> Status {
        let printed = try call(["status", town, "--json"])
        return try JSONDecoder().decode(Status.self, from: Data(printed))
    }

    @discardableResult
    private func call(_ arguments: [String], uninterrupted: Bool = false) throws -> [UInt8] {
        let (exitCode, printed) = try supervisor.run(program, arguments, uninterrupted: uninterrupted)
        guard exitCode == 0 else {
            throw BenchFailure("\(program) \(arguments.joined(separator: " ")) ended with \(exitCode)")
        }
        return printed
    }
}

/// A program in the same directory as this one.
func neighbour(_ name: String) throws -> String {
    guard let own = realpath("/proc/self/exe", nil) else {
        throw BenchFailure("cannot find this program's own file", Errno(rawValue: errno))
    }
    defer { free(own) }
    let path = FilePath(String(cString: own)).removingLastComponent().appending(name).string
    guard access(path, X_OK) == 0 else {
        throw BenchFailure("there is no \(path): build it, or name it with --\(name)")
    }
    return path
}
