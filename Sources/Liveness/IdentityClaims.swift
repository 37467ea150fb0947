/// What the command line and the environment of a process say of who it is.
///
/// Made from the raw values once and then kept for as long as the process runs that program. It holds ids and nothing
/// else of the environment, where secrets live. An empty one is a process of which nothing could be learned.
public struct IdentityClaims: Hashable, Sendable {
    /// The environment variables that are looked at.
    ///
    /// `GT_ROOT` and `GT_TOWN_ROOT` are not among them: they tell of the town, and all in it have them.
    public enum Variable: String, Hashable, Sendable, CaseIterable {
        case role = "GT_ROLE"
        case rig = "GT_RIG"
        case polecat = "GT_POLECAT"
        case pool = "GT_CREW"
        case dogName = "GT_DOG_NAME"
        case beadsActor = "BD_ACTOR"
        case session = "GT_SESSION"
        case beadsAgentName = "BEADS_AGENT_NAME"
    }

    enum Program: Hashable {
        /// `gt status-line`, and what it starts.
        case statusLine
        case daemon
        /// Started by the daemon, which looks after agents in their directories.
        case daemonsChild
        /// Runs for everybody, with the environment and in the directory of whoever happened to start it.
        case server
        case other
    }

    struct Claim: Hashable {
        let runtime: RuntimeID
        let variable: Variable
    }

    private(set) var program: Program
    /// Who it says it is, by role or as an actor.
    let claim: Claim?
    /// The session it says it runs in, by that session's own name.
    let session: RuntimeID?
    /// The agent it says it works for in beads.
    let beadsAgent: RuntimeID?

    /// - Parameters:
    ///   - commandLine: The arguments, with the program's own name first.
    ///   - environment: Without what is not set.
    public init(commandLine: [[UInt8]] = [], environment: [Variable: [UInt8]] = [:]) {
        program = Program(commandLine)
        claim = Self.claim(in: environment)
        session = environment[.session].flatMap { try? RuntimeID(bytes: $0[...].trimmed) }
        beadsAgent = Self.beadsAgent(in: environment)?.runtime
    }

    /// The same, as a child of another process.
    public func started(by parent: IdentityClaims) -> IdentityClaims {
        var child = self
        switch (parent.program, program) {
        case (.statusLine, _): child.program = .statusLine
        case (.daemon, .other), (.daemonsChild, .other): child.program = .daemonsChild
        default: break
        }
        return child
    }

    /// Takes both as `/proc/<pid>/cmdline` and `environ` hold them, each string ended by a NUL.
    ///
    /// Of a variable that is there twice the first counts, as for getenv(3) and Go.
    public init(cmdline: [UInt8], environ: [UInt8]) {
        // Only the first words of a command line matter, and it may be megabytes long.
        let commandLine = cmdline.split(separator: 0, maxSplits: 8, omittingEmptySubsequences: false).prefix(8)
        var environment: [Variable: [UInt8]] = [:]
        var start = 0
        while start < environ.count {
            let end = environ[start...].firstIndex(of: 0) ?? environ.count
            if let variable = Variable(of: environ[start..<end]), environment[variable] == nil {
                environment[variable] = Array(environ[start..<end].dropFirst(variable.rawValue.utf8.count + 1))
            }
            start = end + 1
        }
        self.init(commandLine: commandLine.map(Array.init), environment: environment)
    }

    private static func claim(in environment: [Variable: [UInt8]]) -> Claim? {
        if let runtime = agent(byRoleIn: environment)?.runtime {
            return Claim(runtime: runtime, variable: .role)
        }
        if let actor = environment[.beadsActor], let runtime = Agent(address: actor)?.runtime {
            return Claim(runtime: runtime, variable: .beadsActor)
        }
        return nil
    }

    /// Reads `GT_ROLE`, which newer tools set to an address, and older ones to a bare role with names beside it.
    private static func agent(byRoleIn environment: [Variable: [UInt8]]) -> Agent? {
        guard let role = environment[.role] else { return nil }
        let parts = Agent.parts(of: role)
        guard parts.count == 1 else { return Agent(address: parts) }
        // A name that is not set is empty, and makes no id.
        func name(_ variable: Variable) -> Agent.Name { (environment[variable] ?? [])[...].trimmed }
        return switch parts[0] {
        case "polecat": .polecat(name(.polecat), rig: name(.rig))
        case "crew": .pool(name(.pool), rig: name(.rig))
        case "dog": .dog(name(.dogName))
        case "witness": .witness(rig: name(.rig))
        case "refinery": .refinery(rig: name(.rig))
        default: Agent(address: parts)
        }
    }

    /// Reads `BEADS_AGENT_NAME`, which is `rig/name` for polecats and for crew alike.
    private static func beadsAgent(in environment: [Variable: [UInt8]]) -> Agent? {
        guard let agent = environment[.beadsAgentName].flatMap(Agent.init(address:)) else { return nil }
        if case .polecat(let name, let rig) = agent, name == environment[.pool]?[...].trimmed {
            return .pool(name, rig: rig)
        }
        return agent
    }
}

extension IdentityClaims.Program {
    /// Reads the words after `gt` that are not options.
    fileprivate init(_ commandLine: [[UInt8]]) {
        let path = commandLine.first ?? []
        let name = path[(path.lastIndex(of: UInt8(ascii: "/")).map { $0 + 1 } ?? 0)...]
        var words = commandLine.dropFirst().lazy.filter { $0.first != UInt8(ascii: "-") }.makeIterator()
        switch (name, words.next()?[...]) {
        case ("gt", "status-line"?): self = .statusLine
        case ("gt", "daemon"?): self = words.next().map { "run" ~= $0[...] } == true ? .daemon : .other
        // tmux calls its server by the words that started it; screen, by a name of its own.
        case ("tmux", _), ("tmux: server", _), ("screen", _), ("SCREEN", _), ("pulsefs", _): self = .server
        default: self = .other
        }
    }
}

extension IdentityClaims.Variable {
    private static let prefixes = allCases.map { (variable: $0, bytes: Array("\($0.rawValue)=".utf8)) }

    /// The variable that `NAME=value` sets; nil for any other than these.
    fileprivate init?(of entry: ArraySlice<UInt8>) {
        // Nearly all of an environment is passed over here.
        guard entry.first == UInt8(ascii: "G") || entry.first == UInt8(ascii: "B"),
            let prefix = Self.prefixes.first(where: { entry.starts(with: $0.bytes) })
        else { return nil }
        self = prefix.variable
    }
}
