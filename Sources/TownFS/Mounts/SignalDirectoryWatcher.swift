import CLinux
import Glibc
import Linux
import SystemPackage

/// Finds the directories that can hold signal files, now and as they come, and tells when one is no longer at its path.
///
/// A directory is found when an entry of it can be a signal file by the patterns, with all that is beneath it. The
/// directories above those are watched, and no others; so this never looks into anything that is mounted over. To be used
/// by one thread.
///
/// The corresponding interface of the kernel is inotify(7).
package struct SignalDirectoryWatcher: ~Copyable {
    /// What is done with what is found.
    package protocol Finder {
        /// A directory, which may be known already by another path.
        ///
        /// - Parameter directory: Open (`O_PATH`), as it was found.
        func found(_ path: [UInt8], _ directory: consuming OwnedDescriptor)
        /// A directory that was found is no longer at its path.
        func lost(_ path: [UInt8])
        /// A directory in which others might lie cannot be looked into.
        func failed(_ path: [UInt8], _ error: Errno)
    }

    private struct Watched {
        let path: [UInt8]
        let scope: SignalPatterns.Scope
    }

    private static let interest = UInt32(
        IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ONLYDIR)

    private let root: Descriptor
    private let scope: SignalPatterns.Scope
    private let notices: OwnedDescriptor
    private var watches: [CInt: Watched] = [:]
    private var found: Set<[UInt8]> = []

    /// - Parameter root: The town root, in which nothing is mounted that this has not found.
    package init(of patterns: SignalPatterns, in root: CInt) throws(Errno) {
        let copy = OwnedDescriptor(takingOwnershipOf: try retryingInterrupts { fcntl(root, F_DUPFD_CLOEXEC, 0) })
        let notices = OwnedDescriptor(
            takingOwnershipOf: try retryingInterrupts { inotify_init1(CInt(IN_CLOEXEC | IN_NONBLOCK)) })
        self.init(of: patterns, in: Descriptor(copy), notices: notices)
    }

    private init(of patterns: SignalPatterns, in root: Descriptor, notices: consuming OwnedDescriptor) {
        self.root = root
        self.notices = notices
        scope = patterns.root
    }

    /// Readable when there is something for `catchUp`.
    package var descriptor: CInt { notices.rawValue }

    /// Looks everywhere.
    package mutating func search(for finder: some Finder) {
        visit([], root, scope, finder)
    }

    /// Looks where something has changed.
    package mutating func catchUp(for finder: some Finder) {
        while true {
            // because `struct inotify_event` is read out of it.
            let room = UnsafeMutableRawBufferPointer.allocate(byteCount: 16 << 10, alignment: 8)
            defer { room.deallocate() }
            let count = read(notices.rawValue, room.baseAddress, room.count)
            guard count > 0 else { return }
            var offset = 0
            while offset < count {
                let event = room.load(fromByteOffset: offset, as: inotify_event.self)
                let name = room[(offset + MemoryLayout<inotify_event>.size)...].prefix(Int(event.len)).prefix {
                    $0 != 0
                }
                offset += MemoryLayout<inotify_event>.size + Int(event.len)
                note(event.wd, event.mask, Array(name), finder)
            }
        }
    }

    private mutating func note(_ watch: CInt, _ mask: UInt32, _ name: [UInt8], _ finder: some Finder) {
        if mask & UInt32(IN_Q_OVERFLOW) != 0 { return search(for: finder) }
        if mask & UInt32(IN_IGNORED) != 0 {
            watches[watch] = nil
            return
        }
        guard mask & UInt32(IN_ISDIR) != 0, let parent = watches[watch] else { return }
        let scope = parent.scope.entering(name)
        guard !scope.isEmpty else { return }
        let path = parent.path.isEmpty ? name : parent.path + [UInt8(ascii: "/")] + name
        if mask & UInt32(IN_MOVED_FROM | IN_DELETE) != 0 { leave(path, finder) }
        guard mask & UInt32(IN_CREATE | IN_MOVED_TO) != 0, let directory = try? root.directory(at: parent.path) else {
            return
        }
        visit(path, named: NodeName(name), in: directory, scope, finder)
    }

    private mutating func visit(
        _ path: [UInt8], named name: NodeName, in parent: Descriptor, _ scope: SignalPatterns.Scope,
        _ finder: some Finder
    ) {
        guard !found.contains(path) else { return }
        do throws(Errno) {
            let directory = try name.withPointer { (name) throws(Errno) in
                try OwnedDescriptor(opening: name, in: parent.rawValue, O_PATH | O_NOFOLLOW | O_DIRECTORY)
            }
            if scope.hasSignals {
                found.insert(path)
                finder.found(path, directory)
            } else {
                visit(path, Descriptor(directory), scope, finder)
            }
        } catch .noSuchFileOrDirectory, .notDirectory, .tooManySymbolicLinkLevels {
            // Gone already, or a link: what it leads to has another path.
        } catch {
            finder.failed(path, error)
        }
    }

    private mutating func visit(
        _ path: [UInt8], _ directory: Descriptor, _ scope: SignalPatterns.Scope, _ finder: some Finder
    ) {
        var below: [(name: NodeName, scope: SignalPatterns.Scope)] = []
        do throws(Errno) {
            // Before it is read, so that nothing comes unseen in between.
            let interest = Self.interest
            let watch = try directory.callByPath { [descriptor = notices.rawValue] in
                inotify_add_watch(descriptor, $0, interest)
            }
            watches[watch] = Watched(path: path, scope: scope)
            try DirectoryStream(directory.reopened(O_RDONLY | O_DIRECTORY)).forEach(from: 0) { entry in
                let within = scope.entering(entry.name.bytes)
                if !entry.isDots, !within.isEmpty, entry.kind == S_IFDIR || entry.kind == 0 {
                    below.append((entry.name, within))
                }
                return true
            }
        } catch {
            return finder.failed(path, error)
        }
        for (name, scope) in below {
            let path = path.isEmpty ? name.bytes : path + [UInt8(ascii: "/")] + name.bytes
            visit(path, named: name, in: directory, scope, finder)
        }
    }

    /// A directory has gone from its path, and with it all that is beneath.
    private mutating func leave(_ path: [UInt8], _ finder: some Finder) {
        let backing = path + [UInt8(ascii: "/")]
        for (watch, watched) in watches where watched.path == path || watched.path.starts(with: backing) {
            // One that has been removed has taken its watch along.
            inotify_rm_watch(notices.rawValue, watch)
            watches[watch] = nil
        }
        for lost in found where lost == path || lost.starts(with: backing) {
            found.remove(lost)
            finder.lost(lost)
        }
    }

    /// Forgets a directory that could not be covered, or is covered no longer: it may be found anew.
    package mutating func drop(_ path: [UInt8]) {
        found.remove(path)
    }
}
