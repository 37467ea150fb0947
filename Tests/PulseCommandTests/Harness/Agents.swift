import FoundationEssentials
import Glibc
import SystemPackage
import TestSupport
import Testing

/// The agents of a town and their tools.
///
/// Each agent is a process with the environment and the working directory of its role.
final class Agents {
    let town: MountedTown
    /// A directory with `gt`, first in the agents' `PATH`.
    let programs: String
    private let user: Command.User?
    private var count = 0

    fileprivate init(of town: MountedTown) throws {
        self.town = town
        user = town.user
        programs = try town.scratch.directory("programs")
        try Client.write(AgentPrograms.agent, to: "\(programs)/agent.py")
        try Client.write(AgentPrograms.gt, to: "\(programs)/gt.c")
        try Command("cc", "-O1", "-o", "\(programs)/gt", "\(programs)/gt.c").output()
        try name("claude", for: python)
    }

    private var python: String {
        get throws {
            try Command("sh", "-c", "readlink -f /usr/bin/python3 || command -v python3").output()
                .split(separator: "\n").first.map(String.init) ?? "python3"
        }
    }

    /// Gives a program one more name.
    @discardableResult
    func name(_ name: String, for program: String) throws -> String {
        let path = "\(programs)/\(name)"
        if !Client.exists(path) { try Command("ln", "-s", program, path).output() }
        return path
    }

    /// Compiles a C program and returns its path.
    func compile(_ source: String, as name: String) throws -> String {
        try Client.write(source, to: "\(programs)/\(name).c")
        try Command("cc", "-O1", "-pthread", "-o", "\(programs)/\(name)", "\(programs)/\(name).c").output()
        return "\(programs)/\(name)"
    }

    /// The environment of every agent.
    ///
    /// It does not identify one.
    var environment: [String: String] {
        let path = "\(programs):/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        return ["PATH": path, "GT_ROOT": town.path, "GT_TOWN_ROOT": town.path, Self.mark: town.scratch.path]
    }

    /// Starts an agent with the role in `GT_ROLE`, in the directory of its role.
    func start(_ role: String, program: String = "claude", as user: Command.User? = nil) throws -> Agent {
        try start(environment: ["GT_ROLE": role], in: role, program: program, as: user)
    }

    /// Starts an agent.
    ///
    /// - Parameters:
    ///   - directory: Relative to the town; created if missing.
    ///   - program: The name that the kernel shows (`comm`).
    func start(
        environment: [String: String] = [:], in directory: String? = nil, program: String = "claude",
        as user: Command.User? = nil
    ) throws -> Agent {
        let user = user ?? self.user
        let path = directory.map { "\(town.path)/\($0)" } ?? town.path
        if directory != nil { try Command("mkdir", "-p", path, as: self.user).output() }
        if let user, self.user == nil, directory != nil { chown(path, user.id, user.group) }
        count += 1
        try name(program, for: python)
        return try Agent(
            Command(
                ["\(programs)/\(program)", "-IS", "\(programs)/agent.py"], in: path,
                environment: self.environment.merging(environment) { $1 }, as: user, limit: .seconds(300)),
            pipes: "\(town.scratch.path)/agent-\(count)")
    }

    // MARK: Exit

    /// An environment variable of all processes that agents start.
    ///
    /// It finds those that left their agent's process group.
    private static let mark = "PULSEFS_TEST_TOWN"

    /// Kills all processes that agents have left.
    fileprivate func end() {
        let mark = "\(Self.mark)=\(town.scratch.path)"
        let areGone = eventually(within: .seconds(5)) {
            let pids = ((try? Client.names(in: "/proc")) ?? []).compactMap { pid_t($0) }
            let left = pids.filter { pid in
                guard let environment = try? Client.read("/proc/\(pid)/environ") else { return false }
                return environment.split(separator: "\0").contains { $0 == mark }
            }
            for pid in left { kill(pid, SIGKILL) }
            return left.isEmpty
        }
        #expect(areGone, "agents are left")
    }
}

/// Calls `body` with a mounted town, which has a rig whose session names begin with `gt-`, and its agents.
///
/// All agents have ended before the town is unmounted.
func withAgents(
    _ options: String..., as user: Command.User? = nil, limit: Duration = .seconds(60),
    _ body: (MountedTown, Agents) throws -> Void
) throws {
    try withAgents(options: options, as: user, limit: limit, body)
}

/// The same, with a list of options.
func withAgents(
    options: [String], as user: Command.User? = nil, limit: Duration = .seconds(60),
    _ body: (MountedTown, Agents) throws -> Void
) throws {
    try withMountedTown(options: options, as: user, limit: limit, prepare: writeRigs) { town in
        let agents = try Agents(of: town)
        defer { agents.end() }
        try body(town, agents)
    }
}

/// Configures a rig whose session names begin with `gt-`.
func writeRigs(to town: String) throws {
    try Client.write(#"{"rigs":{"gastown":{"beads":{"prefix":"gt"}}}}"#, to: "\(town)/mayor/rigs.json")
}

extension Agents {
    /// Calls `body` with agents in a town that the test has mounted itself.
    static func with(in town: MountedTown, _ body: (Agents) throws -> Void) throws {
        let agents = try Agents(of: town)
        defer { agents.end() }
        try body(agents)
    }
}

/// A process that executes Python code sent by the test until it is killed.
final class Agent {
    let pid: pid_t
    private let command: RunningCommand
    private let orders: FileDescriptor
    private let answers: FileDescriptor
    private var received: [UInt8] = []

    fileprivate init(_ command: Command, pipes: String) throws {
        var command = command
        var ends: [FileDescriptor] = []
        for name in ["\(pipes).orders", "\(pipes).answers"] {
            guard mkfifo(name, 0o666) == 0, chmod(name, 0o666) == 0 else { throw Errno(rawValue: errno) }
            // Open for reading and writing, so that neither side blocks in open(2).
            ends.append(try Client.open(name, O_RDWR))
            command.words.append(name)
        }
        (orders, answers) = (ends[0], ends[1])
        self.command = try command.start()
        pid = self.command.pid
        try answer()
    }

    deinit { for end in [orders, answers] { try? end.close() } }

    /// Runs Python code with the functions of `AgentPrograms.agent` and returns the variable `result`.
    @discardableResult
    func perform(_ code: String, within limit: Duration = .seconds(20)) throws -> String {
        try begin(code)
        return try answer(within: limit)
    }

    /// Starts the code without waiting for its end.
    func begin(_ code: String) throws {
        let line = String(decoding: try JSONEncoder().encode(code), as: UTF8.self)
        try Client.write(line + "\n", to: orders)
    }

    /// Waits for the end of code that `begin` started.
    @discardableResult
    func answer(within limit: Duration = .seconds(20)) throws -> String {
        struct Answer: Decodable {
            let value: String?
            let error: String?
        }
        let deadline = ContinuousClock.now + limit
        while true {
            if let end = received.firstIndex(of: UInt8(ascii: "\n")) {
                let answer = try JSONDecoder().decode(Answer.self, from: Data(received[..<end]))
                received.removeSubrange(...end)
                guard let value = answer.value else { throw Command.Failed(description: answer.error ?? "no answer") }
                return value
            }
            var question = pollfd(fd: answers.rawValue, events: Int16(POLLIN), revents: 0)
            if poll(&question, 1, 100) == 1 {
                var room = [UInt8](repeating: 0, count: 65_536)
                let count = room.withUnsafeMutableBytes { read(answers.rawValue, $0.baseAddress, $0.count) }
                received += room.prefix(max(0, count))
            } else if !command.isRunning || .now > deadline {
                throw Command.Failed(description: "agent \(pid) does not answer: \(command.printedErrors)")
            }
        }
    }

    /// Runs code and returns `result` as a number.
    func number(_ code: String) throws -> Int {
        try #require(Int(try perform(code)))
    }

    /// Ends code that runs `work`, and returns the number of its steps.
    func endWork() throws -> Int {
        try begin("")
        let count = try #require(Int(try answer()))
        try answer()
        return count
    }

    /// The longest pause between two steps of the last `work`.
    ///
    /// A busy machine may stop an agent for longer than its ttl. It then expires although it works.
    func longestPause() throws -> Duration {
        .milliseconds(try number("result = int(longest_pause * 1000)"))
    }

    /// Kills it with its process group and reaps it.
    ///
    /// - Returns: The time at which waitpid(2) returned.
    @discardableResult
    func kill() throws -> ContinuousClock.Instant {
        command.send(SIGKILL)
        _ = try command.wait()
        return .now
    }

    func send(_ signal: CInt) { command.send(signal) }

    var printedErrors: String { command.printedErrors }
}

// MARK: - State of runtimes

extension MountedTown {
    /// `never` for an unknown runtime.
    func state(of id: String) throws -> String {
        try runtime(id)?.state ?? "never"
    }

    /// Whether a runtime reaches a state in time.
    func becomes(_ state: String, _ id: String, within limit: Duration = .seconds(10)) throws -> Bool {
        try eventually(within: limit) { try self.state(of: id) == state }
    }

    /// The same within a promised time.
    func becomes(_ state: String, _ id: String, within promise: Promise) throws -> Bool {
        try eventually(within: promise) { try self.state(of: id) == state }
    }

    /// The ids of all known runtimes.
    func runtimes() throws -> Set<String> {
        let top = "\(path)/.pulse/runtimes"
        let files = try Command("find", top, "-name", "*.json", "-printf", "%P\n", as: user).output()
        return Set(files.split(separator: "\n").map { String($0.dropLast(5)) })
    }
}

/// A heartbeat file as read by a tool that does not know pulsefs: open, fstat, read.
struct HeartbeatReading {
    let text: String
    let timestamp: Double
    let modified: Double
    let size: Int
    /// When the file was opened, in seconds since 1970.
    let opened: Double

    init(_ path: String) throws {
        opened = Self.now
        let file = try Client.open(path, O_RDONLY)
        defer { try? Client.close(file) }
        let status = try FileStatus(file)
        text = try Client.read(file)
        modified = status.modified
        size = Int(status.st_size)
        timestamp = try Self.seconds(KeepaliveDocument(text).timestamp)
    }

    /// Reads RFC 3339 in UTC, as seconds since 1970.
    static func seconds(_ time: String) throws -> Double {
        let whole = try Date(time.prefix(19) + "Z", strategy: .iso8601).timeIntervalSince1970
        return whole + (Double("0\(time.dropFirst(19).prefix { $0 != "Z" })") ?? 0)
    }

    /// The age of the document when the file was opened, in seconds.
    ///
    /// A delay of the test's own does not count.
    var age: Double { opened - timestamp }

    static var now: Double {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        return Double(now.tv_sec) + Double(now.tv_nsec) / 1e9
    }
}
