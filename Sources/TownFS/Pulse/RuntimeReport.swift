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
        /// The runtime whose process touched for this one, before it gave a sign of life itself.
        package var writtenBy: String?
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

    /// A moment in the past.
    package struct Moment: Codable, Sendable {
        /// RFC 3339.
        package var at: String
        package var ageSeconds: Double
    }

    /// What tells an agent that is alive from one that makes progress.
    package struct Clocks: Codable, Sendable {
        /// Its last written touch.
        package var beat: Moment?
        /// The last change of files by the agent or by processes younger than the ttl.
        package var work: Moment?
        /// The last change of files by older processes, such as a dev server.
        package var backgroundWork: Moment?
        /// Processor time of the root process since the last beat or work; nil if no root process is watched.
        package var cpuSeconds: Double?
    }

    /// The last touch by another runtime's process, which is no sign of this one's life.
    package struct OnBehalf: Codable, Sendable {
        package var writtenBy: String
        package var at: String
        package var ageSeconds: Double
        package var pid: Int32?
        package var program: String?
    }

    /// Another agent that touches under the same id.
    package struct Rival: Codable, Sendable {
        package var at: String
        package var host: String
        package var pid: Int32?
        package var program: String?
    }

    package let id: String
    /// `alive`, `expired`, `exited`, or `never`: nobody heard of the runtime, others touched for it, or its process is new
    /// and gave no sign of life yet.
    package let state: String
    package var evidence: Evidence?
    package var clocks: Clocks?
    package var onBehalf: OnBehalf?
    package var contestedBy: Rival?
    /// Since the last sign of life, or since the start of a process that gave none.
    package var ageSeconds: Double?
    /// Until the runtime expires; 0 if it has, or has exited; nil if it lives as long as its process.
    package var ttlLeftSeconds: Double?
    /// When its root process ended, RFC 3339.
    package var exitedAt: String?
    /// The root process that is watched, or that has ended.
    package var rootPid: Int32?
    /// Whether the root process is stopped.
    package var rootStopped: Bool?
    /// Until when the agent announced to be silent, RFC 3339.
    package var expectedIdleUntil: String?
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
    ///   - newProcess: The age of a process of the runtime that has started since the last sign of life.
    ///   - isShown: Whether a document may be shown to the caller.
    ///   - stateField: The name of the field in which a document tells the agent's state.
    init(
        _ id: RuntimeID, _ record: Record, at now: ContinuousClock.Instant, host: String,
        root: ProcessWatch.RootState?, newProcess: Duration? = nil, isShown: (Document) -> Bool,
        stateField: (Document) -> String
    ) {
        let touch = record.touch
        let state = record.state(at: now)
        self.init(id: id.description, state: (newProcess == nil ? state : .never).rawValue)
        func moment(_ moment: Record.Moment) -> Moment {
            Moment(at: moment.wall.rfc3339, ageSeconds: max(.zero, now - moment.instant).inSeconds)
        }
        evidence = Evidence(
            source: touch.source.rawValue, by: touch.evidence?.description,
            writtenBy: touch.writer?.description, signal: touch.signal.map { String(printable: $0) },
            receivedAt: touch.receivedAt.rfc3339,
            host: touch.stamp.origin?.host ?? host, pid: touch.process?.pid, program: touch.process?.program)
        clocks = Clocks(
            beat: record.clocks.beat.map(moment), work: record.clocks.work.map(moment),
            backgroundWork: record.clocks.backgroundWork.map(moment), cpuSeconds: root?.processorTime?.inSeconds)
        onBehalf = record.onBehalf.map {
            let last = moment($0.moment)
            return OnBehalf(
                writtenBy: $0.writer.description, at: last.at, ageSeconds: last.ageSeconds, pid: $0.process?.pid,
                program: $0.process?.program)
        }
        contestedBy = record.rival.map {
            Rival(
                at: $0.moment.wall.rfc3339, host: $0.origin?.host ?? host, pid: $0.process?.pid,
                program: $0.process?.program)
        }
        if let newProcess {
            ageSeconds = newProcess.inSeconds
        } else if touch.writer == nil {
            ageSeconds = max(.zero, now - touch.at).inSeconds
        }
        if !(record.isHeld && state == .alive) {
            ttlLeftSeconds = state == .alive ? (record.deadline - now).inSeconds : 0
        }
        exitedAt = newProcess == nil ? record.exit?.noticedAt.rfc3339 : nil
        rootPid = root?.pid ?? record.exit?.process.pid
        rootStopped = root?.isStopped
        // A heartbeat has no command, and a keepalive no state.
        let shared = record.sharedDocument.flatMap { isShown($0) ? $0 : nil }
        let own = record.ownDocument.flatMap { isShown($0) ? $0 : nil }
        lastCommand = shared?.string("last_command") ?? own?.string("last_command")
        reportedState = own?.text(stateField(own ?? Document())) ?? shared?.text(stateField(shared ?? Document()))
        expectedIdleUntil = touch.document.flatMap { isShown($0) ? $0.idleUntil?.rfc3339 : nil }
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
