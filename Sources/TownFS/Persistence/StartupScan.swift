import CLinux
import Fuse
import Glibc
import Linux
import Liveness
import SystemPackage

/// Who was here before the mount, by the signal files that are in the town already: those that are somebody's own, and
/// those whose document names who wrote it.
///
/// Each is known from then on with the true age of its document, so that an agent that died with the machine is expired,
/// not unheard of, and not alive because its file was found.
struct StartupScan {
    private let town: Town
    private let now: Town.Timestamps
    /// How many more names are looked at: a mount is not to wait for somebody's million files.
    private var patience = 10_000

    init(of town: Town) {
        self.town = town
        now = town.now
    }

    /// Looks where signal files lie.
    ///
    /// Directories that only a `**` leads into are not looked into: that would be all of the town. What cannot be read says
    /// nothing.
    mutating func recall() {
        recall(in: town.root, path: [], scope: town.configuration.patterns.root)
    }

    /// Looks where signal files lie in what a mount covers.
    mutating func recall(_ cover: SignalMount, in root: Descriptor, _ signals: SignalDirectories) {
        guard let directory = signals.directory(under: cover) else { return }
        let path = directory.path.isEmpty ? [] : directory.path + [UInt8(ascii: "/")]
        recall(in: root, path: path, scope: directory.scope)
    }

    private mutating func recall(in directory: Descriptor, path: [UInt8], scope: SignalPatterns.Scope) {
        var names: [NodeName] = []
        var directories: [(name: NodeName, scope: SignalPatterns.Scope)] = []
        var patience = patience
        _ = try? DirectoryStream(directory.reopened(O_RDONLY | O_DIRECTORY)).forEach(from: 0) { entry in
            patience -= 1
            let name = entry.name.bytes
            if BackingDocument.isTemporary(name, in: scope) {
                if !town.configuration.isReadOnly {
                    _ = entry.name.withPointer { unlinkat(directory.rawValue, $0, 0) }
                }
                return patience > 0
            }
            if scope.matches(name) { names.append(entry.name) }
            let below = scope.entering(name, passingStars: false)
            if !entry.isDots, !below.isEmpty { directories.append((entry.name, below)) }
            return patience > 0
        }
        self.patience = patience
        for name in names { recall(name, in: directory, path: path) }
        for (name, scope) in directories where patience > 0 {
            let opened = try? name.withPointer { (name) throws(Errno) in
                Descriptor(
                    try OwnedDescriptor(opening: name, in: directory.rawValue, O_PATH | O_NOFOLLOW | O_DIRECTORY))
            }
            guard let opened else { continue }
            recall(in: opened, path: path + name.bytes + [UInt8(ascii: "/")], scope: scope)
        }
    }

    private func recall(_ name: NodeName, in directory: Descriptor, path: [UInt8]) {
        guard let file = try? BackingDocument.open(name, in: directory.rawValue), let bytes = try? file.bytes() else {
            return
        }
        let path = path + name.bytes
        var document = Document(bytes)
        document.source = DocumentSource(path: path, ownership: SignalFile.Ownership(file.status))
        let attribution = Attribution(
            of: IdentityClaims(), signal: path, document: document, sessions: town.callers.sessionNames)
        guard case .runtime(let runtime, let evidence) = attribution else { return }
        let modified = WallTime(file.status.st_mtim)
        // Of two times the one that can be: nobody has written tomorrow. Who has by both is not alive for that.
        guard let written = [document.timestamp ?? modified, modified].first(where: { $0 <= now.wall }) else { return }
        _ = town.liveness.receive(
            Touch(
                runtime: runtime, receivedAt: written, at: now.instant - (now.wall - written),
                ttl: town.configuration.ttl, document: document, source: .written, evidence: evidence))
    }
}
