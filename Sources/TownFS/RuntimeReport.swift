import Liveness
import SystemPackage

/// What `.pulse/runtimes/<id>.json` says.
///
/// Field names are its JSON keys, in snake case; they are only ever added to.
struct RuntimeReport: Encodable, Sendable {
    enum State: String, Encodable, Sendable {
        case alive
        case expired
    }

    /// What the last touch was.
    struct Evidence: Encodable, Sendable {
        /// `written`, `renamed`, `attributes` or `command`.
        let source: String
        /// By the clock of the host that shows it, RFC 3339.
        let receivedAt: String
        /// The host that received it.
        let host: String
    }

    let id: String
    let state: State
    let evidence: Evidence
    /// Since the last touch.
    let ageSeconds: Double
    /// Until the runtime expires; 0 if it has.
    let ttlLeftSeconds: Double
    let lastCommand: String?
    /// What the agent says of itself in its document: working, idle, exiting, stuck.
    let reportedState: String?
    /// The last document, as it was written.
    let document: String?

    /// - Parameter host: This one, where the record was made unless it says otherwise.
    init(_ id: RuntimeID, _ record: Record, at now: ContinuousClock.Instant, host: String) {
        let touch = record.touch
        self.id = id.description
        state = record.isAlive(at: now) ? .alive : .expired
        evidence = Evidence(
            source: touch.source.rawValue, receivedAt: touch.receivedAt.rfc3339, host: touch.stamp.origin?.host ?? host)
        ageSeconds = max(.zero, now - touch.at).inSeconds
        ttlLeftSeconds = max(.zero, record.deadline - now).inSeconds
        lastCommand = touch.document?.string("last_command")
        reportedState = touch.document?.string("state")
        document = touch.document.map { String(decoding: $0.bytes, as: UTF8.self) }
    }

    func text() throws(Errno) -> [UInt8] {
        try PulseText.json(self)
    }
}

extension Duration {
    /// To the millisecond.
    fileprivate var inSeconds: Double {
        Double(milliseconds) / 1000
    }
}
