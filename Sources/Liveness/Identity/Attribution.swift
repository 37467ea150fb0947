/// The runtime that a touch belongs to, and the evidence for it.
public enum Attribution: Hashable, Sendable, CustomStringConvertible {
    case runtime(RuntimeID, by: Evidence)
    /// No evidence: only the signal file is touched.
    case unknown
    /// The process never proves life, whatever its environment or document says.
    case excluded

    /// The evidence, in the order in which it is checked; the first that identifies a runtime decides.
    ///
    /// `GT_SESSION` and `BEADS_AGENT_NAME` are checked last. A document that contradicts the environment outranks it.
    public enum Evidence: Hashable, Sendable, CustomStringConvertible {
        /// The process runs a program that is a runtime itself.
        case command
        /// The signal file belongs to one runtime.
        case path
        case environment(IdentityClaims.Variable)
        /// The document names an actor.
        case document
        /// The process works in a directory that belongs to one runtime.
        case directory

        /// All evidence, in the order in which it is checked.
        public static let all: [Evidence] = [
            .command, .path, .environment(.role), .environment(.beadsActor), .document, .directory,
            .environment(.session), .environment(.beadsAgentName),
        ]

        /// The variable's name, or the kind of evidence.
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

    /// For people: `gastown/polecats/nux by GT_ROLE`.
    public var description: String {
        switch self {
        case .runtime(let runtime, let evidence): "\(runtime) by \(evidence)"
        case .unknown: "nobody"
        case .excluded: "excluded"
        }
    }

    public var runtime: RuntimeID? {
        if case .runtime(let runtime, _) = self { runtime } else { nil }
    }

    public var evidence: Evidence? {
        if case .runtime(_, let evidence) = self { evidence } else { nil }
    }

    /// Attributes a touch, or a process where there is neither signal file nor document.
    ///
    /// Accepts any bytes; a spelling that Gas Town does not use identifies no runtime.
    ///
    /// - Parameters:
    ///   - signal: The signal file's path in the town.
    ///   - document: The bytes written to it.
    ///   - workingDirectory: Relative to the town, as in `/proc/<pid>/cwd`; nil if outside or unknown. Evaluated only if
    ///     neither path nor environment identifies a runtime.
    ///   - sessions: Evaluated only if there is a session name to resolve.
    public init(
        of claims: IdentityClaims, signal: [UInt8]? = nil, document: Document? = nil,
        workingDirectory: @autoclosure () -> [UInt8]? = nil, sessions: @autoclosure () -> SessionNames
    ) {
        // The tmux server runs the status line every few seconds, with the environment of the process that started it.
        if claims.program == .statusLine {
            self = .excluded
            return
        }
        if claims.program == .daemon, let daemon = Agent.daemon.runtime {
            self = .runtime(daemon, by: .command)
            return
        }
        let isInPlace = claims.program == .other
        let claims = claims.program == .server ? nil : claims
        let undocumented =
            Self(signal.flatMap { SessionNames.owner(of: $0, sessions()) }, by: .path)
            ?? claims?.claim
            ?? Self((isInPlace ? workingDirectory() : nil).flatMap(Agent.init(directory:))?.runtime, by: .directory)
            ?? Self(claims?.session.flatMap { sessions().runtime(of: $0) }, by: .environment(.session))
            ?? Self(claims?.beadsAgent, by: .environment(.beadsAgentName))
            ?? .unknown
        self = document.map(undocumented.consulting) ?? undocumented
    }

    /// The attribution with the document taken into account.
    ///
    /// An environment that the document contradicts belongs to another agent and leaked through a parent process
    /// (gastown 2d16602cc); the document outranks it.
    public func consulting(_ document: Document) -> Attribution {
        switch self {
        case .excluded, .runtime(_, .command), .runtime(_, .path), .runtime(_, .document): return self
        case .unknown, .runtime(_, .directory), .runtime(_, .environment): break
        }
        guard document.mayHold("actor"), let actor = document.string("actor"),
            let runtime = Agent(address: actor.utf8)?.runtime
        else { return self }
        switch self {
        case .runtime(runtime, .environment(.role)), .runtime(runtime, .environment(.beadsActor)): return self
        default: return .runtime(runtime, by: .document)
        }
    }

    init?(_ runtime: RuntimeID?, by evidence: Evidence) {
        guard let runtime else { return nil }
        self = .runtime(runtime, by: evidence)
    }
}
