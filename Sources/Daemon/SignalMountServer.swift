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
        /// The session that serves each mounted directory.
        var mounted: [[UInt8]: Int] = [:]
        /// Directories that should be mounted and are not.
        ///
        /// One that this user may not search holds no signals of this user, so it does not prevent mounting.
        var unmounted: [[UInt8]: (reason: String, isDenied: Bool)] = [:]
        /// Sessions that have ended and are not cleaned up yet.
        var ended: [(path: [UInt8], session: Int)] = []
        var lastSession = 0
        var sessions = 0
        /// `.pulse` has been unmounted.
        var isEnding = false
    }

    private let signalMounts: SignalMounts
    private let channel: KeeperChannel
    private let log: Logger
    private let state = Mutex(State())
    /// For the thread that watches directories.
    private let changed: EventFD
    /// Signalled at the end of each session.
    private let ended: EventFD

    /// Per mount: a slow disk can block each of them.
    private static let threadCount = 4

    init(of signalMounts: SignalMounts, over channel: KeeperChannel, log: Logger) throws(Errno) {
        self.signalMounts = signalMounts
        self.channel = channel
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

    // MARK: The watching thread

    /// Mounts all directories that exist, tells the keeper, and goes on with those that are created later.
    ///
    /// Returns after `.pulse` has been unmounted.
    func run(_ patterns: SignalPatterns, in root: CInt) {
        do throws(Errno) {
            var search = try SignalDirectoryWatcher(of: patterns, in: root)
            search.search(for: self)
            if let (path, problem) = state.withLock({ $0.unmounted.first { !$0.value.isDenied } }) {
                let directory = path.isEmpty ? "the town root" : Self.text(path)
                try channel.send(.failed, Array("\(directory): \(problem.reason)".utf8))
            } else {
                try channel.send(.ready)
            }
            while true {
                cleanUp(&search)
                var questions = [
                    pollfd(fd: search.descriptor, events: Int16(POLLIN), revents: 0),
                    pollfd(fd: changed.descriptor, events: Int16(POLLIN), revents: 0),
                ]
                poll(&questions, until: nil)
                changed.wait(until: .now)
                if state.withLock({ $0.isEnding }) { return }
                search.update(for: self)
            }
        } catch {
            try? channel.send(.failed, Array("cannot watch directories for signal files: \(error)".utf8))
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
                guard state.mounted[path] == session, !state.isEnding else { return false }
                state.mounted[path] = nil
                return true
            }
            guard isCurrent else { continue }
            log.info("a directory was unmounted", metadata: ["directory": "\(Self.text(path))"])
            signalMounts.remove(path)
            search.forget(path)
            state.withLock { $0.unmounted[path] = ("it was unmounted", false) }
            try? channel.send(.ended, path)
        }
    }

    // MARK: Ending

    /// Has the other mounts detached after `.pulse` was unmounted, and waits for the end of their sessions.
    func end() {
        state.withLock { $0.isEnding = true }
        try? channel.send(.pulseUnmounted)
        changed.signal()
        while state.withLock({ $0.sessions }) > 0 { ended.wait() }
    }
}

extension SignalMountServer: SignalDirectoryWatcher.Delegate {
    func found(_ path: [UInt8], _ directory: consuming OwnedDescriptor) {
        do {
            let connection = try channel.mount(path, directory.rawValue)
            do {
                try serve(path, directory, connection)
            } catch {
                try? channel.unmount(path)
                throw error
            }
        } catch {
            failed(path, because: (error as? Failure)?.message ?? "\(error)")
        }
    }

    private func serve(
        _ path: [UInt8], _ directory: consuming OwnedDescriptor, _ connection: SharedDescriptor
    ) throws {
        let fileSystem = try signalMounts.add(path, takingOwnershipOf: directory)
        do {
            // The session closes its descriptor.
            let own = try OwnedDescriptor(duplicating: connection.rawValue).release()
            let session = try Session(takingOwnershipOf: own, serving: fileSystem)
            let number = state.withLock { state in
                state.lastSession += 1
                state.mounted[path] = state.lastSession
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
        try? channel.unmount(path)
        signalMounts.remove(path)
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
