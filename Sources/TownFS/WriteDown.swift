import CLinux
import Fuse
import Glibc
import Liveness
import Logging
import Synchronization
import SystemPackage

/// The thread that writes documents down to their real files: some seconds after they change, or now when asked to.
///
/// One thread, so that two documents of one file never overtake each other. With nothing to write it sleeps for ever.
final class WriteDown: Sendable {
    /// How long a changed document may wait.
    ///
    /// The promise to users is 30 s; the rest is for a slow disk.
    static let delay: Duration = .seconds(20)

    private struct State {
        var waiting: [ObjectIdentifier: SignalFile] = [:]
        /// When the documents in `waiting` are due; nil when there are none.
        var due: ContinuousClock.Instant?
        var orders: [Order] = []
        var isClosing = false
        var failed = 0
    }

    /// Files to be written at once, for somebody who waits for it.
    private struct Order {
        let files: [SignalFile]
        let done: Wakeup
    }

    private let root: Descriptor
    private let log: Logger
    private let state = Mutex(State())
    private let wakeup: Wakeup
    private let ended: Wakeup

    init(root: Descriptor, log: Logger) throws(Errno) {
        self.root = root
        self.log = log
        wakeup = try Wakeup()
        ended = try Wakeup()
        // Not joined: `close` waits for `ended`, and an owner that never closes lets the process end.
        _ = try Thread(named: "write-down") { self.run() }
    }

    /// Notes that a file has changed.
    func note(_ file: SignalFile) {
        let isFirst = state.withLock { state in
            state.waiting[ObjectIdentifier(file)] = file
            guard state.due == nil else { return false }
            state.due = .now + Self.delay
            return true
        }
        // The thread sleeps without a limit only when nothing is waiting.
        if isFirst { wakeup.raise() }
    }

    /// Writes files down, if they have changed, before it returns.
    ///
    /// Not to be called under a lock.
    func writeNow(_ files: [SignalFile]) {
        guard !files.isEmpty, let done = try? Wakeup() else { return }
        state.withLock { $0.orders.append(Order(files: files, done: done)) }
        wakeup.raise()
        done.wait()
    }

    /// How many documents are not in their real files yet.
    var pendingCount: Int { state.withLock { $0.waiting.count } }

    /// Writes down all that waits and ends the thread; returns how many documents could not be written.
    func close() -> Int {
        state.withLock { $0.isClosing = true }
        wakeup.raise()
        ended.wait()
        return state.withLock { $0.failed }
    }

    // MARK: The thread

    private func run() {
        while true {
            let (due, isClosing) = state.withLock { ($0.due, $0.isClosing) }
            if !isClosing { wakeup.wait(until: due) }
            let (files, orders, isLast) = take(at: .now)
            var failed = write(files)
            for order in orders {
                failed += write(order.files)
                order.done.raise()
            }
            if isLast {
                state.withLock { $0.failed = failed }
                ended.raise()
                return
            }
        }
    }

    private func take(at now: ContinuousClock.Instant) -> (files: [SignalFile], orders: [Order], isLast: Bool) {
        state.withLock { state in
            var files: [SignalFile] = []
            if state.isClosing || state.due.map({ $0 <= now }) == true {
                files = Array(state.waiting.values)
                state.waiting = [:]
                state.due = nil
            }
            let orders = state.orders
            state.orders = []
            for file in orders.flatMap(\.files) { state.waiting[ObjectIdentifier(file)] = nil }
            if state.waiting.isEmpty { state.due = nil }
            return (files, orders, state.isClosing)
        }
    }

    /// Returns how many could not be written; they are tried again with the next delay.
    private func write(_ files: [SignalFile]) -> Int {
        var failed = 0
        for file in files {
            guard let (content, revision) = file.beginWriteDown() else { continue }
            var failure: Errno?
            do throws(Errno) {
                try withDirectory(of: file) { (directory) throws(Errno) in
                    try RealFile.replace(file.name, in: directory, with: content, now: .now)
                }
            } catch {
                failure = error
            }
            switch file.endWriteDown(of: revision, succeeded: failure == nil) {
            case .settled: break
            case .outdated:
                guard let failure else { continue }
                failed += 1
                log.error("cannot write \(String(decoding: file.path, as: UTF8.self)) down: \(failure)")
                note(file)
            case .removed:
                try? withDirectory(of: file) { (directory) throws(Errno) in
                    _ = file.name.withPointer { unlinkat(directory, $0, 0) }
                }
            }
        }
        return failed
    }

    private func withDirectory(
        of file: SignalFile, _ body: (_ directory: CInt) throws(Errno) -> Void
    ) throws(Errno) {
        try root.withDirectory(at: file.directory.path, body)
    }
}

extension Descriptor {
    /// Opens a directory by its path beneath this one, following no symbolic link.
    func withDirectory(
        at path: [UInt8], _ body: (_ directory: CInt) throws(Errno) -> Void
    ) throws(Errno) {
        var reached = self
        for component in path.split(separator: UInt8(ascii: "/")) {
            let opened = try NodeName(component).withPointer { (name) throws(Errno) in
                try OwnedDescriptor(opening: name, in: reached.rawValue, O_PATH | O_NOFOLLOW | O_DIRECTORY)
            }
            reached = Descriptor(opened)
        }
        try body(reached.rawValue)
    }
}
