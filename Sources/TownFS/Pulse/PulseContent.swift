import Fuse
import Glibc
import Liveness
import SystemPackage

/// The content of the files of `.pulse`.
final class PulseContent: Sendable {
    let mounted = WallTime.now.timespec
    private let town: Town
    private let access: DocumentAccess
    private let server: @Sendable () -> TownStatus.Server
    private let counts: @Sendable () -> TownStatus.FileSystem

    init(
        of town: Town, signals: SignalDirectory, server: @escaping @Sendable () -> TownStatus.Server,
        counts: @escaping @Sendable () -> TownStatus.FileSystem
    ) {
        self.town = town
        self.server = server
        self.counts = counts
        access = DocumentAccess(in: town.backing, signals)
    }

    /// The content of a file as of now, ending in a line feed.
    ///
    /// - Throws: EISDIR, EINVAL for events, ESTALE for a runtime that is not known any more.
    func text(of node: PulseNode, for request: Request) throws(Errno) -> [UInt8] {
        switch node {
        case .top, .runtimes, .aliveDirectory, .alias: throw .isDirectory
        case .events, .eventsFrom: throw .invalidArgument
        case .status: return try JSONText.file(status)
        case .metrics: return PrometheusExposition.text(of: status, in: town)
        case .runtime(let id), .alive(let id):
            guard let record = town.liveness.record(of: id) else { throw .staleNFSFileHandle }
            let now = town.now.instant
            let isAlive = record.isAlive(at: now)
            let process = isAlive ? nil : town.processes.process(of: id)
            // An old file says nothing of a process that started later. After an exit, it may be a tool of the dead agent.
            let isNew =
                process.map { process in
                    now - process.age > max(record.touch.receipt, record.exit?.at ?? record.touch.receipt)
                        && (record.exit == nil || process.age >= town.configuration.minimumAgentAge)
                } ?? false
            let report = RuntimeReport(
                id, record, at: now, host: town.configuration.host,
                root: process?.state ?? town.processes.rootState(of: id), newProcess: isNew ? process?.age : nil,
                isShown: { access.allows($0, for: request) }, stateField: { stateField(of: $0) })
            return try report.text()
        }
    }

    /// The field in which a document tells the agent's state: that of its signal, or Gas Town's.
    private func stateField(of document: Document) -> String {
        let source = document.source as? DocumentSource
        return source.flatMap { town.configuration.patterns.match(path: $0.path)?.signal.fields.state } ?? "state"
    }

    func modified(_ node: PulseNode) -> timespec {
        switch node {
        case .runtime(let id), .alive(let id): town.liveness.record(of: id)?.touch.receivedAt.timespec ?? mounted
        case .status, .metrics, .events, .eventsFrom: WallTime.now.timespec
        case .top, .runtimes, .aliveDirectory, .alias: mounted
        }
    }

    private var status: TownStatus {
        let server = server()
        let (configuration, counters, liveness) = (town.configuration, town.counters, town.liveness)
        let known = liveness.counts()
        return TownStatus(
            version: server.version, town: configuration.path, keeperPid: server.keeper, workerPid: getpid(),
            mountedAt: server.mountTime.description, uptimeSeconds: server.mountTime.age,
            takeovers: server.takeovers, servingSince: server.servingSince.rfc3339, stateFormat: SharedState.format,
            ttlSeconds: configuration.ttl / .seconds(1), onExpiry: configuration.expiry.rawValue,
            signalFiles: .init(alive: known.signals.alive, expired: known.signals.expired),
            runtimes: .init(
                alive: known.runtimes.alive, expired: known.runtimes.expired, exited: known.runtimes.exited,
                never: known.runtimes.never),
            documents: .init(
                touches: counters.touches, refused: counters.refused, fromFuture: counters.fromFuture,
                notWrittenDown: town.writeback.dirtyCount),
            fileSystem: counts(), expiryLagSeconds: liveness.tally.expiryLag.map { $0 / .seconds(1) },
            events: .init(lastSeq: liveness.lastEvent, readers: town.events.readerCount, lost: town.events.lost),
            activity: .init(
                mode: configuration.activity.rawValue, observed: counters.touches(by: .activity),
                background: counters.touches(by: .background),
                dropped: counters.activityDropped),
            rootProcesses: town.processes.rootCount,
            restored: counters.restored.map {
                .init(runtimes: $0.runtimes, forgotten: $0.forgotten, savedAt: $0.savedAt.rfc3339)
            }, scope: server.scope, covered: server.coverage?.covered,
            uncovered: server.coverage?.uncovered, mirror: town.mirror?.status)
    }
}

/// An open file of `.pulse` with content of its own.
protocol PulseTextFile: OpenFile {
    /// As of when it was opened.
    var text: [UInt8] { get }
}

extension PulseTextFile {
    package func read(into bytes: UnsafeMutableRawBufferPointer, at offset: off_t) throws(Errno) -> Int {
        bytes.copy(text, from: offset)
    }
}

extension UnsafeMutableRawBufferPointer {
    /// Copies the content of a file from an offset on, and returns how many bytes: 0 beyond the end.
    func copy(_ content: [UInt8], from offset: off_t) -> Int {
        guard offset >= 0, offset < content.count else { return 0 }
        let part = content[Int(offset)...].prefix(count)
        copyBytes(from: part)
        return part.count
    }
}
