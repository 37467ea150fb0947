/// Whose touch it is, and by what it was told.
public enum Attribution: Hashable, Sendable {
    case runtime(RuntimeID, by: Evidence)
    /// Nothing names anybody: only the signal file is touched.
    case nobody
    /// The writer is known to be no sign of anybody's life, whatever it carries or writes.
    case excluded

    /// What names a runtime, in the order in which it is asked; the first that names one decides.
    ///
    /// `GT_SESSION` and `BEADS_AGENT_NAME` are the exception: they are asked last. And a document that contradicts the
    /// environment outranks it.
    public enum Evidence: Hashable, Sendable {
        /// The writer is a program that runs as itself.
        case command
        /// The signal file is one runtime's own.
        case path
        case environment(IdentityClaims.Variable)
        /// The document names an actor.
        case document
        /// The writer works in a directory that is one runtime's own.
        case directory

        /// All there are, in the order in which they are asked.
        public static let all: [Evidence] = [
            .command, .path, .environment(.role), .environment(.beadsActor), .document, .directory,
            .environment(.session), .environment(.beadsAgentName),
        ]
    }

    public var runtime: RuntimeID? {
        if case .runtime(let runtime, _) = self { runtime } else { nil }
    }

    public var evidence: Evidence? {
        if case .runtime(_, let evidence) = self { evidence } else { nil }
    }

    /// Says which runtime a touch is by, or a process when there is neither signal nor document.
    ///
    /// Any bytes will do: what is not spelled as Gas Town spells it names nobody.
    ///
    /// - Parameters:
    ///   - signal: The signal file, by its path in the town.
    ///   - document: What was written to it.
    ///   - workingDirectory: The writer's, relative to the town, as `/proc/<pid>/cwd` gives it; nil if it is elsewhere
    ///     or unknown. Asked for only if neither path nor environment names anybody.
    ///   - sessions: Asked for only if there is a session's name to be understood.
    public init(
        of writer: IdentityClaims, signal: [UInt8]? = nil, document: Document? = nil,
        workingDirectory: @autoclosure () -> [UInt8]? = nil, sessions: @autoclosure () -> SessionNames
    ) {
        switch writer.program {
        // The tmux server runs it every few seconds, with the environment of whoever started that.
        case .statusLine:
            self = .excluded
            return
        case .daemon:
            self = Self(Agent.daemon.runtime, by: .command) ?? .nobody
            return
        case .server, .daemonsChild, .other: break
        }
        let isInPlace = writer.program == .other
        let writer = writer.program == .server ? nil : writer
        let undocumented =
            Self(signal.flatMap { SessionNames.owner(of: $0, sessions()) }, by: .path)
            ?? writer?.claim.map { .runtime($0.runtime, by: .environment($0.variable)) }
            ?? Self((isInPlace ? workingDirectory() : nil).flatMap(Agent.init(directory:))?.runtime, by: .directory)
            ?? Self(writer?.session.flatMap { sessions().runtime(of: $0) }, by: .environment(.session))
            ?? Self(writer?.beadsAgent, by: .environment(.beadsAgentName))
            ?? .nobody
        self = document.map(undocumented.consulting) ?? undocumented
    }

    /// The same once the document is known, for whoever may not ask about the process at that moment.
    ///
    /// An environment that the document contradicts is somebody else's, leaked through a parent (gastown 2d16602cc): what
    /// is written of this very touch outranks it.
    public func consulting(_ document: Document) -> Attribution {
        switch self {
        case .excluded, .runtime(_, .command), .runtime(_, .path), .runtime(_, .document): return self
        case .nobody, .runtime(_, .directory), .runtime(_, .environment): break
        }
        guard document.mayHold("actor"), let actor = document.string("actor"),
            let runtime = Agent(address: actor.utf8)?.runtime
        else { return self }
        if case .runtime(runtime, .environment(.role)) = self { return self }
        if case .runtime(runtime, .environment(.beadsActor)) = self { return self }
        return .runtime(runtime, by: .document)
    }

    private init?(_ runtime: RuntimeID?, by evidence: Evidence) {
        guard let runtime else { return nil }
        self = .runtime(runtime, by: evidence)
    }
}

extension Attribution: CustomStringConvertible {
    /// One line for people: `gastown/polecats/nux by GT_ROLE`.
    public var description: String {
        switch self {
        case .runtime(let runtime, let evidence): "\(runtime) by \(evidence)"
        case .nobody: "nobody"
        case .excluded: "excluded"
        }
    }
}

extension Attribution.Evidence: CustomStringConvertible {
    /// The variable's name, or the word for what else decided.
    public var description: String {
        switch self {
        case .command: "command"
        case .path: "path"
        case .environment(let variable): variable.rawValue
        case .document: "document"
        case .directory: "directory"
        }
    }
}
