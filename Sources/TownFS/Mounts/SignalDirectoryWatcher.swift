import CLinux
import Glibc
import Linux
import SystemPackage

/// Finds the directories that can hold signal files, also those that are created later, and notices when one leaves its
/// path.
///
/// A directory is found if a pattern can match an entry of it. It is then searched no further, and only the directories
/// above it are watched: so this never enters a mount of ours. For one thread.
package struct SignalDirectoryWatcher: ~Copyable {
    package protocol Delegate {
        /// A directory was found. It may be known by another path.
        ///
        /// - Parameter directory: Open, with `O_PATH`.
        func found(_ path: [UInt8], _ directory: consuming OwnedDescriptor)
        /// A found directory has left its path.
        func lost(_ path: [UInt8])
        /// A directory cannot be searched.
        func failed(_ path: [UInt8], _ error: Errno)
    }

    private struct Watched {
        let path: [UInt8]
        let scope: SignalPatterns.Scope
    }

    private static let interest = UInt32(IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ONLYDIR)

    private let root: Descriptor
    private let scope: SignalPatterns.Scope
    private let inotify: Inotify
    private var watches: [CInt: Watched] = [:]
    private var found: Set<[UInt8]> = []

    /// - Parameter root: The town root.
    package init(of patterns: SignalPatterns, in root: CInt) throws(Errno) {
        let copy = try OwnedDescriptor(duplicating: root)
        inotify = try Inotify()
        self.root = Descriptor(copy)
        scope = patterns.root
    }

    /// Readable when `update` has something to do.
    package var descriptor: CInt { inotify.descriptor }

    /// Searches all directories.
    package mutating func search(for delegate: some Delegate) {
        visit([], root, scope, delegate)
    }

    /// Searches directories that have changed.
    package mutating func update(for delegate: some Delegate) {
        while true {
            let events = inotify.read()
            guard !events.isEmpty else { return }
            for event in events { apply(event, delegate) }
        }
    }

    private mutating func apply(_ event: Inotify.Event, _ delegate: some Delegate) {
        let (mask, name) = (event.mask, event.name)
        if mask & UInt32(IN_Q_OVERFLOW) != 0 { return search(for: delegate) }
        if mask & UInt32(IN_IGNORED) != 0 {
            watches[event.watch] = nil
            return
        }
        guard mask & UInt32(IN_ISDIR) != 0, let parent = watches[event.watch] else { return }
        let scope = parent.scope.entering(name)
        guard !scope.isEmpty else { return }
        let path = parent.path.appending(component: name)
        if mask & UInt32(IN_MOVED_FROM | IN_DELETE) != 0 { leave(path, delegate) }
        guard mask & UInt32(IN_CREATE | IN_MOVED_TO) != 0, let directory = try? root.directory(at: parent.path) else {
            return
        }
        visit(path, named: NodeName(name), in: directory, scope, delegate)
    }

    private mutating func visit(
        _ path: [UInt8], named name: NodeName, in parent: Descriptor, _ scope: SignalPatterns.Scope,
        _ delegate: some Delegate
    ) {
        guard !found.contains(path) else { return }
        do throws(Errno) {
            let directory = try name.openDirectory(in: parent.rawValue)
            if scope.hasSignals {
                found.insert(path)
                delegate.found(path, directory)
            } else {
                visit(path, Descriptor(directory), scope, delegate)
            }
        } catch .noSuchFileOrDirectory, .notDirectory, .tooManySymbolicLinkLevels {
            // Removed meanwhile, or a symbolic link: its target has another path.
        } catch {
            delegate.failed(path, error)
        }
    }

    private mutating func visit(
        _ path: [UInt8], _ directory: Descriptor, _ scope: SignalPatterns.Scope, _ delegate: some Delegate
    ) {
        var lower: [(name: NodeName, scope: SignalPatterns.Scope)] = []
        do throws(Errno) {
            // Watched before it is read, so that no new entry is missed.
            let watch = try inotify.add("/proc/self/fd/\(directory.rawValue)", Self.interest)
            watches[watch] = Watched(path: path, scope: scope)
            try DirectoryStream(directory.reopened(O_RDONLY | O_DIRECTORY)).forEach(from: 0) { entry in
                let within = scope.entering(entry.name.bytes)
                if !entry.isDots, !within.isEmpty, entry.kind == S_IFDIR || entry.kind == 0 {
                    lower.append((entry.name, within))
                }
                return true
            }
        } catch {
            return delegate.failed(path, error)
        }
        for (name, scope) in lower {
            visit(path.appending(component: name.bytes), named: name, in: directory, scope, delegate)
        }
    }

    /// Forgets a directory that has left its path, and everything under it.
    private mutating func leave(_ path: [UInt8], _ delegate: some Delegate) {
        let backing = path + [UInt8(ascii: "/")]
        for (watch, watched) in watches where watched.path == path || watched.path.starts(with: backing) {
            inotify.remove(watch)
            watches[watch] = nil
        }
        for lost in found where lost == path || lost.starts(with: backing) {
            found.remove(lost)
            delegate.lost(lost)
        }
    }

    /// Takes a directory for found, because it is mounted already.
    package mutating func remember(_ path: [UInt8]) {
        found.insert(path)
    }

    /// Forgets a directory that could not be mounted or is unmounted, so that it can be found again.
    package mutating func forget(_ path: [UInt8]) {
        found.remove(path)
    }
}
