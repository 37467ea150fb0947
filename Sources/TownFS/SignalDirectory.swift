import Fuse
import Glibc
import Liveness
import Synchronization

/// A directory in or beneath which signal files can lie, and the signal files known in it.
///
/// One object for one path for as long as the mount lasts, whatever the kernel forgets meanwhile.
final class SignalDirectory: Sendable {
    /// Relative to the town root; empty for the root itself.
    let path: [UInt8]
    let scope: SignalPatterns.Scope
    private let town: Town
    private let files = Mutex<[NodeName: SignalFile]>([:])

    init(path: [UInt8], scope: SignalPatterns.Scope, town: Town) {
        self.path = path
        self.scope = scope
        self.town = town
    }

    /// Whether an entry of this name is a signal file, if it is a regular file or nothing at all.
    func isSignal(_ name: FileName) -> Bool {
        scope.matches(name.bytes)
    }

    /// Whether a real file of this name is nowhere to be seen, as its time has run out and that is to mean absence.
    func hasExpired(_ name: NodeName, in real: Descriptor) -> Bool {
        town.configuration.expiry == .absent && (try? file(name).status(in: real)) == nil
    }

    /// The signal file of a name, if anything was ever asked of it.
    func known(_ name: NodeName) -> SignalFile? {
        files.withLock { $0[name] }
    }

    /// The signal file of a name.
    ///
    /// One that has been removed stays so: its name is another file's, once there is one.
    func file(_ name: NodeName) -> SignalFile {
        files.withLock { files in
            if let known = files[name] { return known }
            let file = SignalFile(name: name, in: self, town: town)
            files[name] = file
            return file
        }
    }

    /// The signal file of a name, or a new one if that has been removed: for whoever is about to make it.
    func livingFile(_ name: NodeName) -> SignalFile {
        while true {
            let file = file(name)
            guard file.isRemoved else { return file }
            drop(file)
        }
    }

    /// Lets go of a file, unless its name is another's by now.
    func drop(_ file: SignalFile) {
        files.withLock { files in
            if files[file.name] === file { files[file.name] = nil }
        }
    }

    /// All that is known, in no order.
    var knownFiles: [SignalFile] { files.withLock { Array($0.values) } }
}

/// All directories in which signal files can lie, by path.
final class SignalDirectories: Sendable {
    let root: SignalDirectory
    private let town: Town
    private let known: Mutex<[[UInt8]: SignalDirectory]>

    init(town: Town) {
        self.town = town
        root = SignalDirectory(path: [], scope: town.configuration.patterns.root, town: town)
        known = Mutex([[]: root])
    }

    /// The directory `name` in `parent`; nil where no signal file can lie in or beneath it.
    func directory(_ name: NodeName, in parent: SignalDirectory?) -> SignalDirectory? {
        guard let parent else { return nil }
        let scope = parent.scope.entering(name.bytes)
        guard !scope.isEmpty else { return nil }
        let path = parent.path.isEmpty ? name.bytes : parent.path + [UInt8(ascii: "/")] + name.bytes
        return known.withLock { known in
            if let directory = known[path] { return directory }
            let directory = SignalDirectory(path: path, scope: scope, town: town)
            known[path] = directory
            return directory
        }
    }

    /// The directories at and beneath a path.
    func all(beneath path: [UInt8]) -> [SignalDirectory] {
        known.withLock { known in
            known.values.filter { $0.path == path || path.isEmpty || $0.path.starts(with: path + [UInt8(ascii: "/")]) }
        }
    }

    /// Lets go of directories that are no longer at their paths.
    func drop(_ directories: [SignalDirectory]) {
        known.withLock { known in
            for directory in directories where known[directory.path] === directory && directory !== root {
                known[directory.path] = nil
            }
        }
    }
}
