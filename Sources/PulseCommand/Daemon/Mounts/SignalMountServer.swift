import CLinux
import Fuse
import Glibc
import Linux
import Logging
import Synchronization
import SystemPackage
import TownFS

/// The mounts over directories of signal files, in the worker, which finds the directories and serves the mounts.
///
///     SignalDirectoryWatcher ──found──▶ SignalMountServer ──KeeperChannel──▶ keeper ──mount──▶ kernel
///                                 └── Session ◀──────── connection ─────────┘
final class SignalMountServer: Sendable {
    private struct Trouble {
        let reason: String
        /// What may not be looked into is none of this user's signals, and no reason not to mount.
        var isOthers = false
    }

    private struct State {
        /// What is covered, by the number of the session that serves it.
        var covered: [[UInt8]: Int] = [:]
        /// What should be and is not.
        var uncovered: [[UInt8]: Trouble] = [:]
        /// Sessions that have ended, and have not been cleared away.
        var ended: [(path: [UInt8], session: Int)] = []
        var lastSession = 0
        var sessions = 0
        /// `.pulse` has gone.
        var isEnding = false
    }

    private let signalMounts: SignalMounts
    private let link: KeeperChannel
    private let log: Logger
    private let state = Mutex(State())
    /// For the thread that finds directories.
    private let changed: EventFD
    /// For whoever waits for the end of all sessions.
    private let ended: EventFD

    /// Each may be held by a slow disk; few have work at a time, and each has a stack and a buffer.
    private static let threadCount = 4

    init(of signalMounts: SignalMounts, over link: KeeperChannel, log: Logger) throws(Errno) {
        self.signalMounts = signalMounts
        self.link = link
        self.log = log
        changed = try EventFD()
        ended = try EventFD()
    }

    // MARK: What there is

    /// For the status in `.pulse`: paths relative to the town.
    var coverage: (covered: [String], uncovered: [TownStatus.Uncovered]) {
        state.withLock { state in
            (
                state.covered.keys.map(Self.text).sorted(),
                state.uncovered.map { TownStatus.Uncovered(directory: Self.text($0), reason: $1.reason) }
                    .sorted { $0.directory < $1.directory }
            )
        }
    }

    private static func text(_ path: [UInt8]) -> String { String(decoding: path, as: UTF8.self) }

    // MARK: The thread that finds them

    /// Covers all there is, lets the keeper know, and goes on covering what comes.
    ///
    /// Returns once `.pulse` has gone and with it everything else.
    func run(_ patterns: SignalPatterns, in root: CInt) {
        do throws(Errno) {
            var search = try SignalDirectoryWatcher(of: patterns, in: root)
            search.search(for: self)
            try reportBeginning()
            while true {
                clearAway(&search)
                var questions = [
                    pollfd(fd: search.descriptor, events: Int16(POLLIN), revents: 0),
                    pollfd(fd: changed.descriptor, events: Int16(POLLIN), revents: 0),
                ]
                poll(&questions, until: nil)
                changed.wait(until: .now)
                if state.withLock({ $0.isEnding }) { return }
                search.catchUp(for: self)
            }
        } catch {
            try? link.send(.failed("cannot watch for directories of signal files: \(error)"))
        }
    }

    private func reportBeginning() throws(Errno) {
        let trouble = state.withLock { $0.uncovered.first { !$0.value.isOthers } }
        guard let (path, trouble) = trouble else { return try link.send(.ready) }
        try link.send(.failed("\(path.isEmpty ? "the town root" : Self.text(path)): \(trouble.reason)"))
    }

    /// Ends the files of mounts that somebody has taken away, and lets what could not be covered be found anew.
    private func clearAway(_ search: inout SignalDirectoryWatcher) {
        let (ended, uncovered) = state.withLock { state in
            defer { state.ended = [] }
            return (state.ended, Array(state.uncovered.keys))
        }
        for path in uncovered { search.drop(path) }
        for (path, session) in ended {
            let isCurrent = state.withLock { state in
                guard state.covered[path] == session, !state.isEnding else { return false }
                state.covered[path] = nil
                return true
            }
            guard isCurrent else { continue }
            log.info("not covered any more", metadata: ["directory": "\(Self.text(path))"])
            signalMounts.remove(path)
            search.drop(path)
            state.withLock { $0.uncovered[path] = Trouble(reason: "it was unmounted") }
            try? link.send(.gone(path))
        }
    }

    // MARK: Ending

    /// Has the others taken away after `.pulse` is gone, and waits until nobody has anything of them open.
    func end() {
        state.withLock { $0.isEnding = true }
        try? link.send(.pulseHasGone)
        changed.raise()
        while state.withLock({ $0.sessions }) > 0 {
            ended.wait()
        }
    }
}

extension SignalMountServer: SignalDirectoryWatcher.Finder {
    func found(_ path: [UInt8], _ directory: consuming OwnedDescriptor) {
        do {
            let connection = try link.cover(path, directory.rawValue)
            do {
                try serve(path, directory, connection)
            } catch {
                try? link.uncover(path)
                throw error
            }
        } catch {
            failed(path, because: (error as? Failure)?.message ?? "\(error)")
        }
    }

    private func serve(
        _ path: [UInt8], _ directory: consuming OwnedDescriptor, _ connection: KeeperChannel.OwnedConnection
    ) throws {
        let fileSystem = try signalMounts.add(path, takingOwnershipOf: directory)
        do {
            // The session closes what it is given.
            let own = try retryingInterrupts { fcntl(connection.descriptor.rawValue, F_DUPFD_CLOEXEC, 0) }
            let session = try Session(takingOwnershipOf: own, serving: fileSystem)
            let number = state.withLock { state in
                state.lastSession += 1
                state.covered[path] = state.lastSession
                state.uncovered[path] = nil
                state.sessions += 1
                return state.lastSession
            }
            _ = try Thread(named: "cover") {
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
                self.changed.raise()
                self.ended.raise()
            }
        } catch {
            state.withLock { state in
                if state.covered.removeValue(forKey: path) != nil { state.sessions -= 1 }
            }
            signalMounts.remove(path)
            throw error
        }
    }

    func lost(_ path: [UInt8]) {
        let isCovered = state.withLock { state in
            state.uncovered[path] = nil
            return state.covered.removeValue(forKey: path) != nil
        }
        guard isCovered else { return }
        log.info("not at its path any more", metadata: ["directory": "\(Self.text(path))"])
        // In this order no tool reads an older document, and none meets a file that has just been ended.
        signalMounts.writeback(path)
        try? link.uncover(path)
        signalMounts.remove(path)
    }

    func failed(_ path: [UInt8], _ error: Errno) {
        let advice = error == .noSpace ? "; raise fs.inotify.max_user_watches" : ""
        failed(
            path, because: "it cannot be looked into: \(error)\(advice)", isOthers: error == .permissionDenied)
    }

    private func failed(_ path: [UInt8], because reason: String, isOthers: Bool = false) {
        log.error("cannot cover \(Self.text(path)): \(reason)")
        state.withLock { $0.uncovered[path] = Trouble(reason: reason, isOthers: isOthers) }
    }
}
