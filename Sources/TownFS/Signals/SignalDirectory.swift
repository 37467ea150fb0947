import Fuse
import Glibc
import Liveness
import Synchronization
import SystemPackage

/// A directory in or beneath which signal files can lie, and the signal files known in it.
///
/// One object for one path for as long as the mount lasts, whatever the kernel forgets meanwhile.
final class SignalDirectory: Sendable {
    /// Relative to the town root; empty for the root itself.
    let path: [UInt8]
    let scope: SignalPatterns.Scope
    private let town: Town
    private let state = Mutex(State())

    private struct State {
        var files: [NodeName: SignalFile] = [:]
        /// It is no longer at its path.
        ///
        /// Whoever still has this object is about to learn of another.
        var isGone = false
    }

    init(path: [UInt8], scope: SignalPatterns.Scope, town: Town) {
        self.path = path
        self.scope = scope
        self.town = town
    }

    /// Whether an entry of this name is a signal file, if it is a regular file or missing.
    ///
    /// Never in a detached mount: its signal files are backing files.
    func isSignal(_ name: some Collection<UInt8>) -> Bool {
        scope.matches(name) && !town.isDetached
    }

    /// Whether a real file of this name is nowhere to be seen, as its time has run out and that is to mean absence.
    func hasExpired(_ name: NodeName, in real: Descriptor) -> Bool {
        town.configuration.expiry == .absent && !town.isDetached && (try? file(name).status(in: real)) == nil
    }

    /// The signal file of a name, if anything was ever asked of it.
    func known(_ name: NodeName) -> SignalFile? {
        state.withLock { $0.files[name] }
    }

    /// The signal file of a name.
    ///
    /// One that has been removed stays so: its name is another file's, once there is one.
    func file(_ name: NodeName) -> SignalFile {
        state.withLock { state in
            if let known = state.files[name] { return known }
            let file = SignalFile(name: name, in: self, town: town, isRemoved: state.isGone)
            if !state.isGone { state.files[name] = file }
            return file
        }
    }

    /// Makes something of the signal file of a name, or of a new one if that has been removed.
    ///
    /// - Parameter make: Answers nil when the file has been removed meanwhile, and is then called for a new one.
    /// - Throws: ESTALE when the directory has left its path; whoever looks for it once more finds it under another.
    func withCaller<Result>(
        _ name: NodeName, _ make: (SignalFile) throws(Errno) -> Result?
    ) throws(Errno) -> Result {
        while true {
            let file = file(name)
            if !file.isRemoved, let made = try make(file) { return made }
            guard !state.withLock({ $0.isGone }) else { throw .staleNFSFileHandle }
            drop(file)
        }
    }

    /// Puts another file of the same name in a file's place.
    ///
    /// - Returns: False when that is not its place any more.
    func replace(_ file: SignalFile, with successor: SignalFile) -> Bool {
        state.withLock { state in
            guard state.files[file.name] === file else { return false }
            state.files[file.name] = successor
            return true
        }
    }

    /// Lets go of a file, unless its name is another's by now.
    func drop(_ file: SignalFile) {
        state.withLock { state in
            if state.files[file.name] === file { state.files[file.name] = nil }
        }
    }

    /// Lets go of all files, as the directory is no longer at its path.
    ///
    /// - Returns: What the real files do not hold yet.
    func leave() -> [(file: SignalFile, content: SignalFile.Content)] {
        let files = state.withLock { state in
            defer { state.files = [:] }
            state.isGone = true
            return Array(state.files.values)
        }
        return files.compactMap { file in file.leave().map { (file, $0) } }
    }

    /// Whether a file is here that the real directory may not hold yet.
    var holdsFiles: Bool {
        !town.isDetached && knownFiles.contains { $0.listing == .shown || $0.isAwaited }
    }

    /// All that is known, in no order.
    var knownFiles: [SignalFile] { state.withLock { Array($0.files.values) } }
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
    func all(backing path: [UInt8]) -> [SignalDirectory] {
        known.withLock { known in
            known.values.filter { $0.path == path || path.isEmpty || $0.path.starts(with: path + [UInt8(ascii: "/")]) }
        }
    }

    /// The signal files known at and beneath a path.
    func allFiles(backing path: [UInt8]) -> [SignalFile] { all(backing: path).flatMap(\.knownFiles) }

    /// What a mount's root is; nil where no signal file can lie in or beneath it.
    func directory(under cover: SignalMount) -> SignalDirectory? {
        switch cover {
        case .town: root
        case .directory(let path):
            path.split(separator: UInt8(ascii: "/")).reduce(root) { directory(NodeName($1), in: $0) }
        case .pulse: nil
        }
    }

    /// Lets go of directories that are no longer at their paths, and of all that is in them.
    ///
    /// - Returns: What real files do not hold yet.
    @discardableResult
    func drop(_ directories: [SignalDirectory]) -> [(file: SignalFile, content: SignalFile.Content)] {
        known.withLock { known in
            for directory in directories where known[directory.path] === directory && directory !== root {
                known[directory.path] = nil
            }
        }
        return directories.filter { $0 !== root }.flatMap { $0.leave() }
    }
}
