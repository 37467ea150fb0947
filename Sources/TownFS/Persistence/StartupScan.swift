import Glibc
import Linux
import Liveness
import SystemPackage

/// Restores records of runtimes from the signal files that exist at the mount.
///
/// A file names its runtime by its path or in its document. The record gets the true age of the document: a runtime
/// that died with the machine is expired, neither unknown nor alive.
struct StartupScan {
    private let town: Town
    private let now: Town.Timestamps
    /// How many more names are read, so that a huge directory does not delay the mount.
    private var remaining = 10_000

    init(of town: Town) {
        self.town = town
        now = town.now
    }

    /// Scans a directory and those under it.
    ///
    /// Does not enter directories that only `**` matches, as these are all directories. Skips what cannot be read.
    mutating func run(in directory: Descriptor, _ signals: SignalDirectory) {
        scan(in: directory, path: signals.path, scope: signals.scope)
    }

    private mutating func scan(in directory: Descriptor, path: [UInt8], scope: SignalPatterns.Scope) {
        var files: [(name: NodeName, rule: SignalPatterns.Match)] = []
        var directories: [(name: NodeName, scope: SignalPatterns.Scope)] = []
        var remaining = remaining
        _ = try? DirectoryStream(directory.reopened(O_RDONLY | O_DIRECTORY)).forEach(from: 0) { entry in
            remaining -= 1
            let name = entry.name.bytes
            if BackingDocument.isTemporary(name, in: scope) {
                if !town.configuration.isReadOnly { try? entry.name.unlink(in: directory.rawValue) }
                return remaining > 0
            }
            if let rule = scope.match(name) { files.append((entry.name, rule)) }
            let lower = scope.entering(name, passingStars: false)
            if !entry.isDots, !lower.isEmpty { directories.append((entry.name, lower)) }
            return remaining > 0
        }
        self.remaining = remaining
        for (name, rule) in files { read(name, rule, in: directory, path: path) }
        for (name, scope) in directories where self.remaining > 0 {
            guard let opened = try? Descriptor(name.openDirectory(in: directory.rawValue)) else { continue }
            scan(in: opened, path: path.appending(component: name.bytes), scope: scope)
        }
    }

    private func read(_ name: NodeName, _ rule: SignalPatterns.Match, in directory: Descriptor, path: [UInt8]) {
        guard let file = try? BackingDocument.open(name, in: directory.rawValue), let bytes = try? file.bytes() else {
            return
        }
        let path = path.appending(component: name.bytes)
        var document = Document(bytes)
        document.source = DocumentSource(path: path, ownership: SignalFile.Ownership(file.status))
        let format = SignalFormat(rule.signal, fileName: name.bytes)
        let ttl = rule.signal.ttl ?? town.configuration.ttl
        let modified = WallTime(file.status.st_mtim)
        let judgement = try? format.judge(bytes, receivedAt: modified, previous: nil)
        let attribution = Attribution(
            of: IdentityClaims(), owner: rule.runtime ?? town.callers.owner(of: path),
            sessions: town.callers.sessionNames
        ).consulting(judgement?.runtime)
        guard case .runtime(let runtime, let evidence) = attribution else { return }
        let timestamp = format.kind == .document ? document.timestamp : judgement?.aliveAt
        // A time in the future is wrong. If both are, the file says nothing.
        guard let written = [timestamp ?? modified, modified].first(where: { $0 <= now.wall }) else { return }
        // Numbers of other hosts and pid namespaces mean nothing here. What is known of the runtime without such a process
        // was written there.
        let known = town.liveness.record(of: runtime)
        let isForeign = town.configuration.sharesSignals || known.map { !$0.isHeld && $0.exit == nil } ?? false
        let process =
            isForeign
            ? nil
            : format.process(in: bytes).map {
                town.processes.examine($0, writtenBy: nil, at: modified)
            }
        var touch = Touch(
            runtime: runtime, receivedAt: written, at: now.instant - (now.wall - written),
            ttl: ttl, document: document, source: .written,
            evidence: evidence)
        touch.announcedTTL = judgement?.announcedTTL(receivedAt: written)
        if case .running = process { touch.isHeld = true }
        _ = town.liveness.receive(touch)
        // It may have ended before the mount: it is `exited` from the first look.
        if let process { town.processes.watch(process, for: runtime) }
    }
}
