/// The identity that a process claims through its command line and environment.
///
/// Parsed once per process and program. Keeps ids only, because an environment holds secrets. Empty for a process that
/// cannot be read.
public struct IdentityClaims: Hashable, Sendable {
    /// A name of an environment variable that is read.
    ///
    /// `GT_ROOT` and `GT_TOWN_ROOT` are not: they are the same for the whole town.
    public struct Variable: RawRepresentable, Hashable, Sendable {
        public let rawValue: String

        public init(rawValue: String) {
            self.rawValue = rawValue
        }

        public static let role = Variable(rawValue: "GT_ROLE")
        public static let rig = Variable(rawValue: "GT_RIG")
        public static let polecat = Variable(rawValue: "GT_POLECAT")
        public static let crew = Variable(rawValue: "GT_CREW")
        public static let dogName = Variable(rawValue: "GT_DOG_NAME")
        public static let beadsActor = Variable(rawValue: "BEADS_ACTOR")
        /// The name of `BEADS_ACTOR` before beads 0.62.
        public static let formerBeadsActor = Variable(rawValue: "BD_ACTOR")
        public static let session = Variable(rawValue: "GT_SESSION")
        public static let beadsAgentName = Variable(rawValue: "BEADS_AGENT_NAME")

        /// Those of Gas Town.
        public static let gasTown: [Variable] = [
            .role, .rig, .polecat, .crew, .dogName, .beadsActor, .formerBeadsActor, .session, .beadsAgentName,
        ]
    }

    enum Program: Hashable {
        /// A program that represents nobody, as `HelperProgram` says, and its children.
        case helper
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

    /// - Parameters:
    ///   - commandLine: The arguments, starting with the program's name.
    ///   - rules: What the variables mean.
    public init(
        commandLine: [[UInt8]] = [], environment: [Variable: [UInt8]] = [:], rules: IdentityRules = .gasTown
    ) {
        program = Program(commandLine, environment, rules)
        let role = rules.isGasTown ? Self.agent(byRoleIn: environment)?.runtime : nil
        claim =
            Attribution(role, by: .environment(.role))
            ?? Self.named(by: rules.variables, in: environment)
            ?? (rules.isGasTown ? Self.actor(in: environment) : nil)
        session = rules.isGasTown ? environment[.session].flatMap { RuntimeID(session: $0[...].trimmed) } : nil
        beadsAgent = rules.isGasTown ? Self.beadsAgent(in: environment)?.runtime : nil
    }

    /// The runtime named by the first of the variables that a preset lists.
    private static func named(by variables: [Variable], in environment: [Variable: [UInt8]]) -> Attribution? {
        for variable in variables {
            let runtime = environment[variable].flatMap { try? RuntimeID(bytes: $0[...].trimmed) }
            if let runtime { return .runtime(runtime, by: .environment(variable)) }
        }
        return nil
    }

    /// The agent that beads takes the process for.
    private static func actor(in environment: [Variable: [UInt8]]) -> Attribution? {
        for variable in [Variable.beadsActor, .formerBeadsActor] {
            let runtime = environment[variable].flatMap(Agent.init(address:))?.runtime
            if let runtime { return .runtime(runtime, by: .environment(variable)) }
        }
        return nil
    }

    /// Whether the process says in any way that it is the runtime: also by the name of its session, of which no rig may be
    /// known.
    func mayBe(_ runtime: RuntimeID, _ sessions: () -> SessionNames) -> Bool {
        claim?.runtime == runtime || session == runtime || beadsAgent == runtime
            || session.flatMap { sessions().runtime(of: $0) } == runtime
    }

    /// The runtime that the process belongs to by its program and environment, whatever directory it works in.
    ///
    /// - Parameter sessions: Evaluated only if there is a session name to resolve.
    func identity(_ sessions: () -> SessionNames) -> RuntimeID? {
        switch program {
        case .helper, .server: nil
        case .daemon: Agent.daemon.runtime
        case .daemonChild, .other:
            claim?.runtime ?? session.flatMap { sessions().runtime(of: $0) } ?? beadsAgent
                ?? (program == .daemonChild ? Agent.daemon.runtime : nil)
        }
    }

    /// The claims of a child of `parent`.
    public func started(by parent: IdentityClaims) -> IdentityClaims {
        var child = self
        switch (parent.program, program) {
        case (.helper, _): child.program = .helper
        case (.daemon, .other), (.daemonChild, .other): child.program = .daemonChild
        default: break
        }
        return child
    }

    /// Parses `/proc/<pid>/cmdline` and `environ`, NUL-terminated strings.
    ///
    /// The first of duplicate variables counts, as in getenv(3) and Go.
    public init(cmdline: [UInt8], environ: [UInt8], rules: IdentityRules) {
        // Only the first words matter, and the rest may be megabytes long.
        let commandLine = cmdline.split(separator: 0, maxSplits: 8, omittingEmptySubsequences: false).prefix(8)
        var environment: [Variable: [UInt8]] = [:]
        var start = 0
        while start < environ.count {
            let end = environ[start...].firstIndex(of: 0) ?? environ.count
            if let variable = rules.variable(of: environ[start..<end]), environment[variable] == nil {
                environment[variable] = Array(environ[start..<end].dropFirst(variable.rawValue.utf8.count + 1))
            }
            start = end + 1
        }
        self.init(commandLine: commandLine.map(Array.init), environment: environment, rules: rules)
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
    fileprivate init(
        _ commandLine: [[UInt8]], _ environment: [IdentityClaims.Variable: [UInt8]], _ rules: IdentityRules
    ) {
        let program = (commandLine.first ?? [])[...]
        let name = program.lastPathComponent
        // The words that are no options.
        var words = commandLine.dropFirst().lazy.filter { $0.first != UInt8(ascii: "-") }.makeIterator()
        let subcommand = words.next()?[...]
        let isHelper = rules.helpers.contains { helper in
            let named = helper.variable.flatMap { environment[IdentityClaims.Variable(rawValue: $0)] }
            return (name.elementsEqual(helper.program.utf8) || named?[...].lastPathComponent == name && !name.isEmpty)
                && (helper.subcommands.isEmpty
                    || helper.subcommands.contains { subcommand?.elementsEqual($0.utf8) ?? false })
        }
        if isHelper {
            self = .helper
        } else if rules.isGasTown, rules.isGasTownProgram(name, environment), "daemon" ~= subcommand ?? [] {
            self = words.next().map { "run" ~= $0[...] } == true ? .daemon : .other
        } else {
            switch name {
            // tmux's server keeps the arguments that started it; screen's server renames itself.
            case "tmux", "tmux: server", "screen", "SCREEN", "pulsefs": self = .server
            default: self = .other
            }
        }
    }
}

extension ArraySlice<UInt8> {
    fileprivate var lastPathComponent: ArraySlice<UInt8> {
        self[(lastIndex(of: UInt8(ascii: "/")).map { $0 + 1 } ?? startIndex)...]
    }
}

/// How processes name the runtime that they belong to, and which processes represent nobody: the part of presets that
/// is about processes.
public struct IdentityRules: Hashable, Sendable {
    public let isGasTown: Bool
    let variables: [IdentityClaims.Variable]
    let helpers: [HelperProgram]
    /// All variables that are read, with `NAME=` as bytes.
    private let read: [IdentityClaims.Variable: [UInt8]]
    /// The first bytes of their names.
    private let initials: Set<UInt8>

    public static let gasTown = IdentityRules([.gasTown])

    /// The variable that may name another binary of `gt`.
    static let gasTownCommand = IdentityClaims.Variable(rawValue: "GT_COMMAND")

    public init(_ presets: [Preset]) {
        isGasTown = presets.contains(where: \.isGasTown)
        variables = presets.flatMap(\.variables).map(IdentityClaims.Variable.init(rawValue:))
        helpers = presets.flatMap(\.helpers)
        let others = helpers.compactMap(\.variable).map(IdentityClaims.Variable.init(rawValue:))
        let all = (isGasTown ? IdentityClaims.Variable.gasTown + [Self.gasTownCommand] : []) + variables + others
        read = Dictionary(all.map { ($0, Array("\($0.rawValue)=".utf8)) }) { first, _ in first }
        initials = Set(read.values.compactMap(\.first))
    }

    /// The variable set by `NAME=value`; nil for one that is not read.
    fileprivate func variable(of entry: ArraySlice<UInt8>) -> IdentityClaims.Variable? {
        // Skips nearly all variables.
        guard let first = entry.first, initials.contains(first) else { return nil }
        return read.first { entry.starts(with: $0.value) }?.key
    }

    fileprivate func isGasTownProgram(
        _ name: ArraySlice<UInt8>, _ environment: [IdentityClaims.Variable: [UInt8]]
    ) -> Bool {
        "gt" ~= name || !name.isEmpty && environment[Self.gasTownCommand]?[...].lastPathComponent == name
    }
}
