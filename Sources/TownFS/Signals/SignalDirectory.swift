import Fuse
import Glibc
import Liveness
import Synchronization
import SystemPackage

/// A directory in which, or under which, signal files can lie, and the signal files known in it.
///
/// There is at most one attached object for a path. It lives while a node, a signal file in it or a directory under it
/// refers to it; a parent refers to its children weakly. Renaming or removing the directory detaches the object for good.
/// Paths are shorter than `PATH_MAX`, which bounds the depth of this tree.
///
/// Lock order: the parent's lock before the child's. `deinit` locks the parent, so strong references to children must
/// leave the lock before they are released.
final class SignalDirectory: Sendable {
    let scope: SignalPatterns.Scope
    private let name: NodeName
    /// Nil for the town root.
    private let parent: SignalDirectory?
    private let pathSize: Int
    private let town: Town
    private let state: Mutex<State>

    private struct State {
        var files: [NodeName: SignalFile] = [:]
        var children: [NodeName: Child] = [:]
        /// The directory is not at its path any more; requests in flight may still hold this object.
        var isDetached: Bool
    }

    /// A class, as Swift 6.3 without optimization reads a weak reference in an optional structure wrongly.
    private final class Child: Sendable {
        weak let directory: SignalDirectory?
        let id: ObjectIdentifier

        init(_ directory: SignalDirectory) {
            self.directory = directory
            id = ObjectIdentifier(directory)
        }
    }

    /// The town root.
    convenience init(rootOf town: Town) {
        self.init(NodeName([]), in: nil, scope: town.configuration.patterns.root, town: town, isDetached: false)
        restore(from: town.journal, of: town)
    }

    private init(
        _ name: NodeName, in parent: SignalDirectory?, scope: SignalPatterns.Scope, town: Town, isDetached: Bool
    ) {
        self.name = name
        self.parent = parent
        pathSize = parent.map { $0.pathSize + 1 + name.bytes.count } ?? 0
        self.scope = scope
        self.town = town
        state = Mutex(State(isDetached: isDetached))
    }

    deinit {
        parent?.removeChild(name, ObjectIdentifier(self))
    }

    /// The path relative to the town root; empty for the root.
    var path: [UInt8] { parent?.path(of: name.bytes) ?? [] }

    /// The path of an entry, relative to the town root.
    func path(of name: [UInt8]) -> [UInt8] { path.appending(component: name) }

    // MARK: Directories

    /// The object of a subdirectory, if there is one.
    func knownChild(_ name: NodeName) -> SignalDirectory? {
        state.withLock { $0.children[name]?.directory }
    }

    /// The object of a subdirectory; nil if no signal file can lie in it or under it.
    func child(_ name: NodeName) -> SignalDirectory? {
        if let known = knownChild(name) { return known }
        let scope = scope.entering(name.bytes)
        guard !scope.isEmpty, pathSize + 1 + name.bytes.count < PATH_MAX else { return nil }
        return state.withLock { state in
            if let known = state.children[name]?.directory { return known }
            let child = SignalDirectory(name, in: self, scope: scope, town: town, isDetached: state.isDetached)
            if !state.isDetached { state.children[name] = Child(child) }
            return child
        }
    }

    /// The object of a directory under this one; nil if no signal file can lie in it or under it.
    ///
    /// - Parameter path: Relative to this directory; empty for itself.
    func descendant(_ path: [UInt8]) -> SignalDirectory? { descendant(path) { $0.child($1) } }

    /// The object of a directory under this one, if there is one.
    private func knownDescendant(_ path: [UInt8]) -> SignalDirectory? { descendant(path) { $0.knownChild($1) } }

    private func descendant(
        _ path: [UInt8], _ child: (SignalDirectory, NodeName) -> SignalDirectory?
    ) -> SignalDirectory? {
        path.split(separator: UInt8(ascii: "/")).reduce(self) { directory, name in
            directory.flatMap { child($0, NodeName(name)) }
        }
    }

    private func removeChild(_ name: NodeName, _ id: ObjectIdentifier) {
        state.withLock { state in
            guard state.children[name]?.id == id else { return }
            state.children[name] = nil
            state.children.shrinkIfSparse()
        }
    }

    /// The objects at and under a path that exist already.
    func all(under path: [UInt8]) -> [SignalDirectory] { knownDescendant(path)?.subtree ?? [] }

    /// This object and the objects under it, parents first.
    var subtree: [SignalDirectory] {
        var found = [self]
        var next = 0
        while next < found.count {
            found += found[next].state.withLock { $0.children.values.compactMap(\.directory) }
            next += 1
        }
        return found
    }

    /// Detaches this object and all objects under it, and ends their signal files.
    ///
    /// - Returns: Dirty documents.
    func detachSubtree() -> [(file: SignalFile, content: SignalFile.Content)] {
        parent?.removeChild(name, ObjectIdentifier(self))
        var dirty: [(file: SignalFile, content: SignalFile.Content)] = []
        var waiting = [self]
        while let directory = waiting.popLast() {
            let (files, children) = directory.state.withLock { state in
                defer {
                    state.files = [:]
                    state.children = [:]
                    state.isDetached = true
                }
                return (Array(state.files.values), state.children.values.compactMap(\.directory))
            }
            for file in files {
                if let content = file.leave() { dirty.append((file, content)) }
            }
            waiting += children
        }
        return dirty
    }

    // MARK: Files

    /// Whether an entry of this name is a signal file, if it is a regular file or does not exist.
    ///
    /// Never in a detached mount: its signal files are backing files.
    func isSignal(_ name: some Collection<UInt8>) -> Bool {
        scope.matches(name) && pathSize + name.count < PATH_MAX && !town.isDetached
    }

    /// Whether a backing file is hidden because its record has expired (`Expiry.absent`).
    func hasExpired(_ name: NodeName, in backing: Descriptor) -> Bool {
        town.configuration.expiry == .absent && !town.isDetached && (try? file(name).status(in: .open(backing))) == nil
    }

    /// The signal file of a name, if there is an object for it.
    func known(_ name: NodeName) -> SignalFile? {
        state.withLock { $0.files[name] }
    }

    /// The signal file of a name in a directory under this one, if there is an object for it.
    func known(_ name: NodeName, in path: [UInt8]) -> SignalFile? { knownDescendant(path)?.known(name) }

    /// The signal files known at and under a path.
    func allFiles(under path: [UInt8]) -> [SignalFile] { all(under: path).flatMap(\.knownFiles) }

    /// The signal file of a name; in a detached directory, an unlinked one.
    func file(_ name: NodeName) -> SignalFile {
        state.withLock { state in
            if let known = state.files[name] { return known }
            let file = SignalFile(name: name, in: self, town: town, isRemoved: state.isDetached)
            if !state.isDetached { state.files[name] = file }
            return file
        }
    }

    /// Calls `body` with the signal file of a name, and with a new one if that was unlinked.
    ///
    /// - Parameter body: Returns nil if the file was unlinked meanwhile; it is then called again with a new one.
    /// - Throws: ESTALE if the directory is no longer at its path; the kernel then looks it up again.
    func withFile<Result>(
        _ name: NodeName, _ body: (SignalFile) throws(Errno) -> Result?
    ) throws(Errno) -> Result {
        while true {
            let file = file(name)
            if !file.isRemoved, let result = try body(file) { return result }
            guard !state.withLock({ $0.isDetached }) else { throw .staleNFSFileHandle }
            drop(file)
        }
    }

    /// Replaces a file by another one of the same name.
    ///
    /// - Returns: False if the name no longer belongs to `file`.
    func replace(_ file: SignalFile, with successor: SignalFile) -> Bool {
        state.withLock { state in
            guard state.files[file.name] === file else { return false }
            state.files[file.name] = successor
            return true
        }
    }

    /// Removes a file, unless its name belongs to another one.
    func drop(_ file: SignalFile) {
        state.withLock { state in
            guard state.files[file.name] === file else { return }
            state.files[file.name] = nil
            state.files.shrinkIfSparse()
        }
    }

    /// Whether there are files here that the backing directory may not hold yet.
    var holdsFiles: Bool {
        !town.isDetached && knownFiles.contains { $0.listing == .shown || $0.isBeingCreated }
    }

    /// The signal files that have an object, in no order.
    var knownFiles: [SignalFile] { state.withLock { Array($0.files.values) } }
}

extension Dictionary {
    /// Gives memory back after many removals, as a dictionary never shrinks by itself.
    fileprivate mutating func shrinkIfSparse() {
        guard capacity > 64, count * 8 < capacity else { return }
        self = Dictionary(uniqueKeysWithValues: map { ($0.key, $0.value) })
    }
}
