import FoundationEssentials
import Glibc

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
        try call(["mount", town] + (options.map { ["-o", $0] } ?? []), uninterrupted: true)
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
