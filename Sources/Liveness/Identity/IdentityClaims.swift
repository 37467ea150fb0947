/// The identity that a process claims through its command line and environment.
///
/// Parsed once per process and program. Keeps ids only, because an environment holds secrets. Empty for a process that
/// cannot be read.
public struct IdentityClaims: Hashable, Sendable {
    /// The environment variables read; `GT_ROOT` and `GT_TOWN_ROOT` are the same for the whole town.
    public enum Variable: String, Hashable, Sendable, CaseIterable {
        case role = "GT_ROLE"
        case rig = "GT_RIG"
        case polecat = "GT_POLECAT"
        case crew = "GT_CREW"
        case dogName = "GT_DOG_NAME"
        case beadsActor = "BD_ACTOR"
        case session = "GT_SESSION"
        case beadsAgentName = "BEADS_AGENT_NAME"
    }

    enum Program: Hashable {
        /// `gt status-line` and its children.
        case statusLine
        case daemon
        /// A child of the daemon, which works in the directories of other agents.
        case daemonChild
        /// Shared by all agents, with the environment and directory of the one that started it.
        case server
        case other
    }

    private(set) var program: Program
    /// By role or as an actor.
    let claim: Attribution?
    /// The name of the session.
    let session: RuntimeID?
    /// The agent that it works for in beads.
    let beadsAgent: RuntimeID?

    /// - Parameter commandLine: The arguments, starting with the program's name.
    public init(commandLine: [[UInt8]] = [], environment: [Variable: [UInt8]] = [:]) {
        program = Program(commandLine)
        claim =
            Attribution(Self.agent(byRoleIn: environment)?.runtime, by: .environment(.role))
            ?? Attribution(
                environment[.beadsActor].flatMap(Agent.init(address:))?.runtime, by: .environment(.beadsActor))
        session = environment[.session].flatMap { RuntimeID(session: $0[...].trimmed) }
        beadsAgent = Self.beadsAgent(in: environment)?.runtime
    }

    /// The claims of a child of `parent`.
    public func started(by parent: IdentityClaims) -> IdentityClaims {
        var child = self
        switch (parent.program, program) {
        case (.statusLine, _): child.program = .statusLine
        case (.daemon, .other), (.daemonChild, .other): child.program = .daemonChild
        default: break
        }
        return child
    }

    /// Parses `/proc/<pid>/cmdline` and `environ`, NUL-terminated strings.
    ///
    /// The first of duplicate variables counts, as in getenv(3) and Go.
    public init(cmdline: [UInt8], environ: [UInt8]) {
        // Only the first words matter, and the rest may be megabytes long.
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

    /// Parses `GT_ROLE`: an address, or from older tools a role whose names are in other variables.
    private static func agent(byRoleIn environment: [Variable: [UInt8]]) -> Agent? {
        guard let role = environment[.role] else { return nil }
        let parts = Agent.parts(of: role)
        guard parts.count == 1 else { return Agent(address: parts) }
        // An empty name makes no valid id.
        func name(_ variable: Variable) -> Agent.Name { (environment[variable] ?? [])[...].trimmed }
        return switch parts[0] {
        case "polecat": .polecat(name(.polecat), rig: name(.rig))
        case "crew": .crew(name(.crew), rig: name(.rig))
        case "dog": .dog(name(.dogName))
        case "witness": .witness(rig: name(.rig))
        case "refinery": .refinery(rig: name(.rig))
        default: Agent(address: parts)
        }
    }

    /// Parses `BEADS_AGENT_NAME`, which is `rig/name` for polecats and for crew.
    private static func beadsAgent(in environment: [Variable: [UInt8]]) -> Agent? {
        guard let agent = environment[.beadsAgentName].flatMap(Agent.init(address:)) else { return nil }
        if case .polecat(let name, let rig) = agent, name == environment[.crew]?[...].trimmed {
            return .crew(name, rig: rig)
        }
        return agent
    }
}

extension IdentityClaims.Program {
    /// Parses the words after `gt` that are not options.
    fileprivate init(_ commandLine: [[UInt8]]) {
        let path = commandLine.first ?? []
        let name = path[(path.lastIndex(of: UInt8(ascii: "/")).map { $0 + 1 } ?? 0)...]
        var words = commandLine.dropFirst().lazy.filter { $0.first != UInt8(ascii: "-") }.makeIterator()
        switch (name, words.next()?[...]) {
        case ("gt", "status-line"?): self = .statusLine
        case ("gt", "daemon"?): self = words.next().map { "run" ~= $0[...] } == true ? .daemon : .other
        // tmux's server keeps the arguments that started it; screen's server renames itself.
        case ("tmux", _), ("tmux: server", _), ("screen", _), ("SCREEN", _), ("pulsefs", _): self = .server
        default: self = .other
        }
    }
}

extension IdentityClaims.Variable {
    private static let prefixes = allCases.map { (variable: $0, bytes: Array("\($0.rawValue)=".utf8)) }

    /// The variable set by `NAME=value`; nil for any other.
    fileprivate init?(of entry: ArraySlice<UInt8>) {
        // Skips nearly all variables.
        guard entry.first == UInt8(ascii: "G") || entry.first == UInt8(ascii: "B"),
            let prefix = Self.prefixes.first(where: { entry.starts(with: $0.bytes) })
        else { return nil }
        self = prefix.variable
    }
}
