/// Maps session names to agents: `gt-nux` is the polecat nux of the rig with the prefix `gt`.
public struct SessionNames: Hashable, Sendable {
    private let rigOfPrefix: [String: String]

    /// Resolves only the sessions of the town itself, such as `hq-mayor`.
    public init() {
        rigOfPrefix = [:]
    }

    /// Parses the rigs' prefixes in `mayor/rigs.json`, at `rigs.<rig>.beads.prefix`; nil if it is not a JSON object.
    ///
    /// A prefix of two rigs is ignored.
    public init?(rigsDocument: [UInt8]) {
        guard (try? UTF8Span(validating: rigsDocument.span)) != nil, let document = JSONOutline(rigsDocument),
            document.isObject
        else { return nil }
        var rigOfPrefix: [String: String] = [:]
        var shared: Set<String> = []
        for (rig, settings) in document.object("rigs")?.objects ?? [:] {
            guard var prefix = settings.object("beads")?.string("prefix") else { continue }
            if prefix.hasSuffix("-") { prefix.removeLast() }
            guard !prefix.isEmpty else { continue }
            if rigOfPrefix.updateValue(rig, forKey: prefix) != nil { shared.insert(prefix) }
        }
        self.rigOfPrefix = rigOfPrefix.filter { !shared.contains($0.key) }
    }

    /// The runtime that a signal file belongs to; nil if it has many writers.
    ///
    /// A heartbeat of an unknown session belongs to a runtime of the session's name.
    ///
    /// - Parameters:
    ///   - signal: The path in the town.
    ///   - sessions: Evaluated only if the path contains a session name.
    public static func owner(of signal: [UInt8], _ sessions: @autoclosure () -> SessionNames) -> RuntimeID? {
        switch signal[...] {
        case "deacon/heartbeat.json", "deacon/.deacon-heartbeat": Agent.deacon.runtime
        default: RuntimeID(heartbeatPath: signal).map { sessions().runtime(of: $0) ?? $0 }
        }
    }

    /// The agent that runs in a session, by the longest matching prefix; nil if there is none.
    public func runtime(of session: RuntimeID) -> RuntimeID? {
        let name = session.description
        // The length bounds the lookups, one for each dash.
        guard name.utf8.count <= RuntimeID.maximumNameLength, RuntimeID.isSession(name.utf8) else { return nil }
        let bytes = Array(name.utf8)
        if let agent = Agent(townSession: bytes[...]) { return agent.runtime }
        for dash in bytes.indices.reversed() where bytes[dash] == UInt8(ascii: "-") {
            if let rig = rigOfPrefix[String(decoding: bytes[..<dash], as: UTF8.self)] {
                return Agent(session: bytes[(dash + 1)...], rig: Array(rig.utf8)[...])?.runtime
            }
        }
        return nil
    }
}

extension RuntimeID {
    /// The name of a session as Gas Town makes it; nil for any other text, which may be a secret.
    init?(session: ArraySlice<UInt8>) {
        guard Self.isSession(session) else { return nil }
        try? self.init(bytes: session)
    }

    fileprivate static func isSession(_ name: some Sequence<UInt8>) -> Bool {
        name.allSatisfy { $0 == UInt8(ascii: "/") || isAllowedInName($0) }
    }
}

extension Agent {
    /// Parses the name of a session that belongs to no rig.
    fileprivate init?(townSession name: Name) {
        switch name {
        case "hq-mayor": self = .mayor
        case "hq-deacon": self = .deacon
        case "hq-boot": self = .boot
        default:
            guard let (before, dog) = name.split(atFirst: "hq-dog-"), before.isEmpty else { return nil }
            self = .dog(dog)
        }
    }

    /// Parses the part after the rig's prefix and a dash.
    fileprivate init?(session name: Name, rig: Name) {
        switch name {
        case "witness": self = .witness(rig: rig)
        case "refinery": self = .refinery(rig: rig)
        default:
            if let (before, name) = name.split(atFirst: "crew-"), before.isEmpty {
                self = .crew(name, rig: rig)
            } else {
                self.init(worker: name, rig: rig)
            }
        }
    }
}
