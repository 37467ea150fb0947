/// The runtime that a touch belongs to, and the evidence for it.
public enum Attribution: Hashable, Sendable, CustomStringConvertible {
    case runtime(RuntimeID, by: Evidence)
    /// A process of another runtime touched for this one: the file is touched, and it is no sign of this one's life.
    case onBehalf(of: RuntimeID, by: Evidence, writer: RuntimeID)
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
        ///
        /// Without the variables of presets, which are checked after `GT_ROLE`.
        public static let all: [Evidence] = [
            .command, .path, .environment(.role), .environment(.beadsActor), .environment(.formerBeadsActor), .document,
            .directory, .environment(.session), .environment(.beadsAgentName),
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
        case .onBehalf(let runtime, let evidence, let writer): "\(runtime) by \(evidence), written by \(writer)"
        case .unknown: "nobody"
        case .excluded: "excluded"
        }
    }

    public var runtime: RuntimeID? {
        switch self {
        case .runtime(let runtime, _), .onBehalf(let runtime, _, _): runtime
        case .unknown, .excluded: nil
        }
    }

    public var evidence: Evidence? {
        switch self {
        case .runtime(_, let evidence), .onBehalf(_, let evidence, _): evidence
        case .unknown, .excluded: nil
        }
    }

    /// The runtime whose process touched for another one; nil for a runtime's own touch.
    public var writer: RuntimeID? { if case .onBehalf(_, _, let writer) = self { writer } else { nil } }

    /// Attributes a touch, or a process where there is neither signal file nor document.
    ///
    /// Accepts any bytes; a spelling that Gas Town does not use identifies no runtime.
    ///
    /// - Parameters:
    ///   - owner: The runtime that the signal file belongs to by its path.
    ///   - workingDirectory: Relative to the town, as in `/proc/<pid>/cwd`; nil if outside or unknown. Evaluated only if
    ///     neither path nor environment identifies a runtime.
    ///   - sessions: Evaluated only if there is a session name to resolve.
    public init(
        of claims: IdentityClaims, owner: RuntimeID? = nil, workingDirectory: @autoclosure () -> [UInt8]? = nil,
        sessions: @autoclosure () -> SessionNames
    ) {
        // A status line runs every few seconds, with the environment of the process that started it.
        guard claims.program != .helper else {
            self = .excluded
            return
        }
        if let owner {
            if let writer = claims.identity(sessions), writer != owner, !claims.mayBe(owner, sessions) {
                self = .onBehalf(of: owner, by: .path, writer: writer)
            } else {
                self = .runtime(owner, by: .path)
            }
            return
        }
        if claims.program == .daemon, let daemon = Agent.daemon.runtime {
            self = .runtime(daemon, by: .command)
            return
        }
        let isInPlace = claims.program == .other
        let claims = claims.program == .server ? nil : claims
        self =
            claims?.claim
            ?? Self((isInPlace ? workingDirectory() : nil).flatMap(Agent.init(directory:))?.runtime, by: .directory)
            ?? Self(claims?.session.flatMap { sessions().runtime(of: $0) }, by: .environment(.session))
            ?? Self(claims?.beadsAgent, by: .environment(.beadsAgentName))
            ?? .unknown
    }

    /// The attribution with the runtime that the content names.
    ///
    /// An environment that the content contradicts belongs to another agent: its process writes on behalf of the one
    /// that is named, or the environment leaked through a parent process (gastown 2d16602cc).
    public func consulting(_ named: RuntimeID?) -> Attribution {
        guard let named else { return self }
        switch self {
        case .excluded, .onBehalf, .runtime(_, .path), .runtime(_, .document): return self
        case .unknown, .runtime(_, .directory): return .runtime(named, by: .document)
        case .runtime(let writer, let evidence) where writer == named:
            return evidence.outranksDocument ? self : .runtime(named, by: .document)
        case .runtime(let writer, _): return .onBehalf(of: named, by: .document, writer: writer)
        }
    }

    init?(_ runtime: RuntimeID?, by evidence: Evidence) {
        guard let runtime else { return nil }
        self = .runtime(runtime, by: evidence)
    }
}

extension Attribution.Evidence {
    fileprivate var outranksDocument: Bool {
        switch self {
        case .environment(.session), .environment(.beadsAgentName), .directory, .document: false
        case .command, .path, .environment: true
        }
    }
}
