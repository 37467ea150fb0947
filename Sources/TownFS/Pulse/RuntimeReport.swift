import Liveness
import SystemPackage

/// What `.pulse/runtimes/<id>.json` says.
///
/// Field names are its JSON keys, in snake case; they are only ever added to.
struct RuntimeReport: Encodable, Sendable {
    /// What the last touch was.
    struct Evidence: Encodable, Sendable {
        /// `written`, `renamed`, `attributes`, `command` or `activity`.
        let source: String
        /// What named the runtime: `path`, a variable's name, `document`, `directory` or `command`.
        let by: String?
        /// The signal file, by its path in the town.
        let signal: String?
        /// By the clock of the host that shows it, RFC 3339.
        let receivedAt: String
        /// The host that received it.
        let host: String
        /// Of the process that made the touch.
        let pid: Int32?
        let program: String?
    }

    let id: String
    /// `alive`, `expired` or `exited`.
    let state: String
    let evidence: Evidence
    /// Since the last touch.
    let ageSeconds: Double
    /// Until the runtime expires; 0 if it has, or has exited.
    let ttlLeftSeconds: Double
    /// When its root process was seen to have ended, RFC 3339.
    let exitedAt: String?
    /// The root process: the one that is watched, or that has ended.
    let rootPid: Int32?
    let lastCommand: String?
    /// What the agent says of itself in its document: working, idle, exiting, stuck.
    let reportedState: String?
    /// The last document, as it was written.
    let document: String?

    /// - Parameters:
    ///   - host: This one, where the record was made unless it says otherwise.
    ///   - root: The process that is watched, if one is.
    init(_ id: RuntimeID, _ record: Record, at now: ContinuousClock.Instant, host: String, root: Int32?) {
        let touch = record.touch
        let state = record.state(at: now)
        self.id = id.description
        self.state = state.rawValue
        evidence = Evidence(
            source: touch.source.rawValue, by: touch.evidence?.description,
            signal: touch.signal.map { String(printable: $0) }, receivedAt: touch.receivedAt.rfc3339,
            host: touch.stamp.origin?.host ?? host, pid: touch.process?.pid, program: touch.process?.program)
        ageSeconds = max(.zero, now - touch.at).inSeconds
        ttlLeftSeconds = state == .alive ? (record.deadline - now).inSeconds : 0
        exitedAt = record.exit?.noticedAt.rfc3339
        rootPid = record.exit?.process.pid ?? root
        // Of each file the last that was written counts; a heartbeat says no command, and a keepalive no state.
        lastCommand =
            record.sharedDocument?.string("last_command") ?? record.ownDocument?.string("last_command")
        reportedState = record.ownDocument?.string("state") ?? record.sharedDocument?.string("state")
        document = touch.document.map { String(decoding: $0.bytes, as: UTF8.self) }
    }

    func text() throws(Errno) -> [UInt8] {
        try JSONText.file(self)
    }
}

extension Duration {
    /// To the millisecond.
    fileprivate var inSeconds: Double {
        Double(milliseconds) / 1000
    }
}
