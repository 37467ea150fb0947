import CLinux
import Fuse
import Glibc
import Linux
import Logging
import Synchronization
import SystemPackage
import TownFS

/// The mounts over directories of signal files, in the worker.
///
/// It finds the directories and serves the mounts.
///
///     SignalDirectoryWatcher ──found──▶ SignalMountServer ──KeeperChannel──▶ keeper ──mount──▶ kernel
///                                              └── Session ◀───────────── connection ────────────┘
final class SignalMountServer: Sendable {
    private struct State {
        /// The directories that are mounted, and the number of the session that serves each.
        var mounted: [[UInt8]: (mount: DirectoryMount, session: Int)] = [:]
        /// Directories that should be mounted and are not.
        ///
        /// One that this user may not search holds no signals of this user, so it does not prevent mounting.
        var unmounted: [[UInt8]: (reason: String, isDenied: Bool)] = [:]
        /// Sessions that have ended and are not cleaned up yet.
        var ended: [(path: [UInt8], session: Int)] = []
        var lastSession = 0
        var sessions = 0
        /// Directories that an earlier worker has served, and that the watcher does not know yet.
        var adopted: [[UInt8]] = []
        /// Another keeper has come: the former one may have left a request undone.
        var mustSearch = false
        /// `.pulse` has been unmounted.
        var isEnding = false
    }

    private let signalMounts: SignalMounts
    private let descriptors: DescriptorStore
    private let channel: Mutex<KeeperChannel>
    private let log: Logger
    private let state = Mutex(State())
    /// For the thread that watches directories.
    private let changed: EventFD
    /// Signalled at the end of each session.
    private let ended: EventFD

    /// How long another keeper may take to come.
    private static let keeperLimit: Duration = .seconds(10)
    /// Per mount: a slow disk can block each of them.
    private static let threadCount = 4

    /// - Parameter descriptors: What the keeper holds for a successor.
    init(
        of signalMounts: SignalMounts, keeping descriptors: DescriptorStore, over channel: KeeperChannel, log: Logger
    ) throws(Errno) {
        self.signalMounts = signalMounts
        self.descriptors = descriptors
        self.channel = Mutex(channel)
        self.log = log
        changed = try EventFD()
        ended = try EventFD()
    }

    /// For `.pulse/status.json`: paths relative to the town.
    var coverage: (covered: [String], uncovered: [TownStatus.Uncovered]) {
        let (mounted, unmounted) = state.withLock { ($0.mounted, $0.unmounted) }
        let uncovered = unmounted.map { TownStatus.Uncovered(directory: Self.text($0), reason: $1.reason) }
        return (mounted.keys.map(Self.text).sorted(), uncovered.sorted { $0.directory < $1.directory })
    }

    private static func text(_ path: [UInt8]) -> String { String(decoding: path, as: UTF8.self) }

    /// For another keeper.
    var mounts: [DirectoryMount] { state.withLock { $0.mounted.values.map(\.mount) } }

    /// Talks to another keeper from now on, because the former one has died.
    func replaceChannel(with other: KeeperChannel) {
        channel.withLock { $0 = other }
        state.withLock { $0.mustSearch = true }
        changed.signal()
    }

    private var keeper: KeeperChannel { channel.withLock { $0 } }

    /// Serves what an earlier worker has served, from the first request on.
    func adopt(_ inherited: [DirectoryMount]) {
        for mount in inherited {
            do {
                try serve(mount)
                state.withLock { $0.adopted.append(mount.path) }
            } catch {
                failed(mount.path, because: "\(error)")
            }
        }
    }

    // MARK: The watching thread

    /// Mounts all directories that exist, tells the keeper, and goes on with those that are created later.
    ///
    /// Returns after `.pulse` has been unmounted.
    func run(_ patterns: SignalPatterns, in root: CInt) {
        do throws(Errno) {
            var search = try SignalDirectoryWatcher(of: patterns, in: root)
            for path in state.withLock({ $0.adopted }) { search.remember(path) }
            endMovedMounts(&search)
            search.search(for: self)
            // Another keeper than the first one needs neither.
            if let (path, problem) = state.withLock({ $0.unmounted.first { !$0.value.isDenied } }) {
                let directory = path.isEmpty ? "the town root" : Self.text(path)
                try? keeper.send(.failed, Array("\(directory): \(problem.reason)".utf8))
            } else {
                try? keeper.send(.ready)
            }
            while true {
                cleanUp(&search)
                var questions = [
                    pollfd(fd: search.descriptor, events: Int16(POLLIN), revents: 0),
                    pollfd(fd: changed.descriptor, events: Int16(POLLIN), revents: 0),
                ]
                poll(&questions, until: nil)
                changed.wait(until: .now)
                let (isEnding, mustSearch) = state.withLock { state in
                    defer { state.mustSearch = false }
                    return (state.isEnding, state.mustSearch)
                }
                if isEnding { return }
                if mustSearch { search.search(for: self) }
                search.update(for: self)
            }
        } catch {
            try? keeper.send(.failed, Array("cannot watch directories for signal files: \(error)".utf8))
        }
    }

    /// Removes mounts that were unmounted by others, and lets the watcher find failed directories again.
    private func cleanUp(_ search: inout SignalDirectoryWatcher) {
        let (ended, failed) = state.withLock { state in
            defer { state.ended = [] }
            return (state.ended, Array(state.unmounted.keys))
        }
        for path in failed { search.forget(path) }
        for (path, session) in ended {
            let isCurrent = state.withLock { state in
                guard state.mounted[path]?.session == session, !state.isEnding else { return false }
                state.mounted[path] = nil
                return true
            }
            guard isCurrent else { continue }
            log.info("a directory was unmounted", metadata: ["directory": "\(Self.text(path))"])
            signalMounts.remove(path)
            search.forget(path)
            state.withLock { $0.unmounted[path] = ("it was unmounted", false) }
            try? keeper.send(.ended, path)
        }
    }

    /// Ends the mounts over directories that have left their paths while nobody watched them.
    private func endMovedMounts(_ search: inout SignalDirectoryWatcher) {
        guard let table = try? MountTable() else { return }
        for mount in mounts {
            let entry = table.entries.first { $0.id == SharedState.mountID(of: mount.state) }
            guard let entry, Array(entry.path.utf8) != Array("\(entry.source)/".utf8) + mount.path else { continue }
            search.forget(mount.path)
            lost(mount.path)
        }
    }

    // MARK: Ending

    /// Has the other mounts detached after `.pulse` was unmounted, and waits for the end of their sessions.
    func end() {
        state.withLock { $0.isEnding = true }
        try? keeper.send(.pulseUnmounted)
        changed.signal()
        while state.withLock({ $0.sessions }) > 0 { ended.wait() }
    }
}

extension SignalMountServer: SignalDirectoryWatcher.Delegate {
    func found(_ path: [UInt8], _ directory: consuming OwnedDescriptor) {
        do {
            let mount = try keeper.mount(path, SharedDescriptor(directory))
            do {
                try serve(mount)
            } catch {
                try? keeper.unmount(path)
                throw error
            }
        } catch KeeperChannel.Refusal.keeperEnded {
            failed(path, because: "the keeper has ended")
        } catch KeeperChannel.Refusal.refused(let reason) {
            failed(path, because: reason)
        } catch {
            failed(path, because: "\(error)")
        }
    }

    private func serve(_ mount: DirectoryMount) throws {
        let path = mount.path
        let shared = try SharedState(mount.state, descriptors: descriptors)
        let fileSystem = try signalMounts.add(path, mount.directory, state: shared)
        do {
            // The session closes its descriptor.
            let own = try OwnedDescriptor(duplicating: mount.connection.rawValue).release()
            let session = try Session(takingOwnershipOf: own, serving: fileSystem, state: shared.connection())
            let number = state.withLock { state in
                state.lastSession += 1
                state.mounted[path] = (mount, state.lastSession)
                state.unmounted[path] = nil
                state.sessions += 1
                return state.lastSession
            }
            _ = try Thread(named: "signal mount") {
                do throws(Errno) {
                    try session.run(threads: Self.threadCount)
                } catch {
                    self.log.error("cannot serve \(Self.text(path)): \(error)")
                }
                withExtendedLifetime(fileSystem) {}
                self.state.withLock { state in
                    state.sessions -= 1
                    state.ended.append((path, number))
                }
                self.changed.signal()
                self.ended.signal()
            }
        } catch {
            state.withLock { state in
                if state.mounted.removeValue(forKey: path) != nil { state.sessions -= 1 }
            }
            signalMounts.remove(path)
            throw error
        }
    }

    func lost(_ path: [UInt8]) {
        let isMounted = state.withLock { state in
            state.unmounted[path] = nil
            return state.mounted.removeValue(forKey: path) != nil
        }
        guard isMounted else { return }
        log.info("a directory has left its path", metadata: ["directory": "\(Self.text(path))"])
        // In this order no tool reads an older document, and none meets a signal file that was just removed.
        signalMounts.writeBack(path)
        unmount(path)
        signalMounts.remove(path)
    }

    /// Has the keeper unmount a directory, or the next one if it dies meanwhile.
    private func unmount(_ path: [UInt8]) {
        let limit = ContinuousClock.now + Self.keeperLimit
        // For `run`, from which a wait takes the signal.
        defer { changed.signal() }
        while limit > .now {
            let asked = keeper
            if (try? asked.unmount(path)) != nil { return }
            changed.wait(until: limit)
        }
        log.error("the keeper does not unmount \(Self.text(path))")
    }

    func failed(_ path: [UInt8], _ error: Errno) {
        let advice = error == .noSpace ? "; raise fs.inotify.max_user_watches" : ""
        failed(path, because: "it cannot be searched: \(error)\(advice)", isDenied: error == .permissionDenied)
    }

    private func failed(_ path: [UInt8], because reason: String, isDenied: Bool = false) {
        log.error("cannot mount \(Self.text(path)): \(reason)")
        state.withLock { $0.unmounted[path] = (reason, isDenied) }
    }
}
