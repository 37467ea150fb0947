/// What pulsefs knows of a tool: its signal files, how its processes name their runtime, and which of them represent
/// nobody.
public struct Preset: Hashable, Sendable {
    public var name: String
    /// One line for people.
    public var summary: String
    /// The first one that matches a path decides.
    public var signals: [Signal]
    /// Whether processes, documents, sessions and directories are named by the rules of Gas Town.
    public var isGasTown: Bool
    /// Environment variables whose value is a runtime's id; the first that is set decides.
    public var variables: [String]
    public var helpers: [HelperProgram]

    public init(
        name: String, summary: String = "", signals: [Signal] = [], isGasTown: Bool = false, variables: [String] = [],
        helpers: [HelperProgram] = []
    ) {
        self.name = name
        self.summary = summary
        self.signals = signals
        self.isGasTown = isGasTown
        self.variables = variables
        self.helpers = helpers
    }
}

/// Programs that run with an agent's environment and represent nobody: a status line, or a poller that is left behind.
///
/// A process of one never proves life, and neither do its children.
public struct HelperProgram: Hashable, Sendable {
    /// The name of the program, without its directory.
    public var program: String
    /// An environment variable that may hold another name or path of the program, such as `GT_COMMAND`.
    public var variable: String?
    /// The first word of the command line that is no option; empty for every command line.
    public var subcommands: [String]

    public init(_ program: String, orNamedBy variable: String? = nil, subcommands: [String] = []) {
        self.program = program
        self.variable = variable
        self.subcommands = subcommands
    }
}
