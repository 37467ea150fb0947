/// Which agents run in which sessions: `gt-nux` is the polecat nux of the rig with the prefix `gt`.
public struct SessionNames: Hashable, Sendable {
    private let rigOfPrefix: [String: String]

    /// Knows the town's own sessions only, such as `hq-mayor`.
    public init() {
        rigOfPrefix = [:]
    }

    /// Reads the rigs' prefixes from the content of `mayor/rigs.json`; nil if that is not a JSON object.
    ///
    /// A prefix is at `rigs.<rig>.beads.prefix`. One that two rigs share tells nothing and is left out.
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

    /// The runtime that a signal file, by its path in the town, belongs to; nil if many write it.
    ///
    /// A heartbeat of a session that no prefix explains is its own runtime's.
    ///
    /// - Parameter sessions: Asked for only if the path names a session.
    public static func owner(of signal: [UInt8], _ sessions: @autoclosure () -> SessionNames) -> RuntimeID? {
        switch signal[...] {
        case "deacon/heartbeat.json", "deacon/.deacon-heartbeat": Agent.deacon.runtime
        default: RuntimeID(heartbeatPath: signal).map { sessions().runtime(of: $0) ?? $0 }
        }
    }

    /// The agent that runs in a session; nil if the name does not tell.
    ///
    /// Of several prefixes that fit the longest counts, whatever follows it.
    public func runtime(of session: RuntimeID) -> RuntimeID? {
        let name = session.description
        // No session's name is longer; and each dash below costs a look-up.
        guard name.utf8.count <= RuntimeID.maximumNameLength else { return nil }
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

extension Agent {
    /// Reads the whole name of a session that belongs to no rig.
    fileprivate init?(townSession name: Name) {
        switch name {
        case "hq-mayor": self = .mayor
        case "hq-deacon": self = .deacon
        case "hq-boot": self = .boot
        default:
            guard let (before, dog) = name.parted(at: "hq-dog-"), before.isEmpty else { return nil }
            self = .dog(dog)
        }
    }

    /// Reads what follows the rig's prefix and a dash.
    fileprivate init?(session name: Name, rig: Name) {
        switch name {
        case "witness": self = .witness(rig: rig)
        case "refinery": self = .refinery(rig: rig)
        default:
            if let (before, name) = name.parted(at: "crew-"), before.isEmpty {
                self = .pool(name, rig: rig)
            } else {
                self.init(worker: name, rig: rig)
            }
        }
    }
}
