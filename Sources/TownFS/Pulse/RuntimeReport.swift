import Liveness
import SystemPackage

/// The content of `.pulse/runtimes/<id>.json`.
///
/// Field names are its JSON keys, in snake case. Keys are only ever added; those that an older worker does not write
/// are nil.
package struct RuntimeReport: Codable, Sendable {
    /// The last touch.
    package struct Evidence: Codable, Sendable {
        /// `written`, `renamed`, `attributes`, `command` or `activity`.
        package var source: String?
        /// The evidence that named the runtime: `path`, a variable's name, `document`, `directory` or `command`.
        package var by: String?
        /// The signal file, by its path in the town.
        package var signal: String?
        /// By the clock of this host, RFC 3339.
        package var receivedAt: String?
        /// The host that received it.
        package var host: String?
        /// The process that made the touch.
        package var pid: Int32?
        package var program: String?
    }

    package let id: String
    /// `alive`, `expired` or `exited`; the command also says `never`, of an unknown runtime.
    package let state: String
    package var evidence: Evidence?
    /// Since the last touch.
    package var ageSeconds: Double?
    /// Until the runtime expires; 0 if it has, or has exited.
    package var ttlLeftSeconds: Double?
    /// When its root process ended, RFC 3339.
    package var exitedAt: String?
    /// The root process that is watched, or that has ended.
    package var rootPid: Int32?
    package var lastCommand: String?
    /// The agent's own state in its document: working, idle, exiting, stuck.
    package var reportedState: String?
    /// The last document, as it was written.
    package var document: String?

    package init(id: String, state: String) {
        self.id = id
        self.state = state
    }

    /// - Parameters:
    ///   - host: This one, where the record was made unless it says otherwise.
    ///   - root: The process that is watched, if one is.
    ///   - isShown: Whether a document may be shown to the caller.
    init(
        _ id: RuntimeID, _ record: Record, at now: ContinuousClock.Instant, host: String, root: Int32?,
        isShown: (Document) -> Bool
    ) {
        let touch = record.touch
        let state = record.state(at: now)
        self.init(id: id.description, state: state.rawValue)
        evidence = Evidence(
            source: touch.source.rawValue, by: touch.evidence?.description,
            signal: touch.signal.map { String(printable: $0) }, receivedAt: touch.receivedAt.rfc3339,
            host: touch.stamp.origin?.host ?? host, pid: touch.process?.pid, program: touch.process?.program)
        ageSeconds = max(.zero, now - touch.at).inSeconds
        ttlLeftSeconds = state == .alive ? (record.deadline - now).inSeconds : 0
        exitedAt = record.exit?.noticedAt.rfc3339
        rootPid = record.exit?.process.pid ?? root
        // A heartbeat has no command, and a keepalive no state.
        let shared = record.sharedDocument.flatMap { isShown($0) ? $0 : nil }
        let own = record.ownDocument.flatMap { isShown($0) ? $0 : nil }
        lastCommand = shared?.string("last_command") ?? own?.string("last_command")
        reportedState = own?.string("state") ?? shared?.string("state")
        document = touch.document.flatMap { isShown($0) ? $0 : nil }.map { String(decoding: $0.bytes, as: UTF8.self) }
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
