import CLinux
import Glibc
import Linux
import Liveness
import Logging
import Synchronization
import SystemPackage

/// The thread that writes documents down to their real files: some seconds after they change, or now when asked to.
///
/// One thread, so that two documents of one file never overtake each other. With nothing to write it sleeps for ever.
final class Writeback: Sendable {
    private struct State {
        var waiting: [ObjectIdentifier: SignalFile] = [:]
        /// When the documents in `waiting` are due; nil when there are none.
        var due: ContinuousClock.Instant?
        var orders: [Order] = []
        var isClosing = false
        /// Nobody serves orders any more.
        var hasEnded = false
        var failed = 0
    }

    /// Files to be written at once, for somebody who waits for it.
    private final class Order: Sendable {
        let files: [SignalFile]
        let isDurable: Bool
        let done: EventFD
        let failure = Mutex<Errno?>(nil)

        init(_ files: [SignalFile], isDurable: Bool) throws(Errno) {
            self.files = files
            self.isDurable = isDurable
            done = try EventFD()
        }
    }

    private let backing: BackingTree
    private let delay: Duration
    private let log: Logger
    private let state = Mutex(State())
    private let event: EventFD
    private let ended: EventFD

    /// - Parameter delay: How long a changed document may wait.
    init(in backing: BackingTree, delay: Duration, log: Logger) throws(Errno) {
        self.backing = backing
        self.delay = delay
        self.log = log
        event = try EventFD()
        ended = try EventFD()
        // Not joined: `close` waits for `ended`, and an owner that never closes lets the process end.
        _ = try Thread(named: "write-down") { self.run() }
    }

    /// Notes that a file has changed.
    ///
    /// - Returns: False after the last write-back of `close`: the change will not reach the backing file.
    @discardableResult
    func note(_ file: SignalFile) -> Bool {
        let (isFirst, isAccepted) = state.withLock { state in
            guard !state.hasEnded else { return (false, false) }
            state.waiting[ObjectIdentifier(file)] = file
            guard state.due == nil else { return (false, true) }
            state.due = .now + delay
            return (true, true)
        }
        // The thread sleeps without a limit only when nothing is waiting.
        if isFirst { event.raise() }
        return isAccepted
    }

    /// Writes files down, if they have changed, before it returns.
    ///
    /// Not to be called under a lock.
    ///
    /// A write-down of one of them that has begun already has ended by then, too.
    ///
    /// - Parameter isDurable: Whether they shall be on the disk then, and not just in the real files.
    /// - Returns: What kept one of them from being written. It stays among those that wait.
    @discardableResult
    func writeNow(_ files: [SignalFile], isDurable: Bool = false) -> Errno? {
        files.isEmpty ? nil : carryOut(files, isDurable: isDurable)
    }

    /// Writes back all files that have changed, before it returns.
    func writeAll() {
        carryOut(state.withLock { Array($0.waiting.values) }, isDurable: false)
    }

    @discardableResult
    private func carryOut(_ files: [SignalFile], isDurable: Bool) -> Errno? {
        do throws(Errno) {
            let order = try Order(files, isDurable: isDurable)
            let isServed = state.withLock { state in
                if !state.hasEnded { state.orders.append(order) }
                return !state.hasEnded
            }
            // `close` has written what there was.
            guard isServed else { return nil }
            event.raise()
            order.done.wait()
            return order.failure.withLock { $0 }
        } catch {
            return error
        }
    }

    /// How many documents are not in their real files yet.
    var pendingCount: Int {
        // Asked outside the lock, which comes after theirs. Those that were removed wait for nothing.
        state.withLock { Array($0.waiting.values) }.count { !$0.isRemoved }
    }

    /// Writes down all that waits and ends the thread; returns how many documents could not be written.
    func close() -> Int {
        state.withLock { $0.isClosing = true }
        event.raise()
        ended.wait()
        // For whoever calls a second time.
        ended.raise()
        return state.withLock { $0.failed }
    }

    // MARK: The thread

    private func run() {
        while true {
            let (due, isClosing) = state.withLock { ($0.due, $0.isClosing) }
            if !isClosing { event.wait(until: due) }
            let (files, orders, isLast) = take(at: .now)
            var failed = write(files).count
            for order in orders {
                let failures = write(order.files, isDurable: order.isDurable)
                failed += failures.count
                order.failure.withLock { $0 = failures.first }
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
            state.hasEnded = state.isClosing
            for file in orders.flatMap(\.files) { state.waiting[ObjectIdentifier(file)] = nil }
            if state.waiting.isEmpty { state.due = nil }
            return (files, orders, state.isClosing)
        }
    }

    /// Returns what went wrong with those that could not be written; they are tried again with the next delay.
    private func write(_ files: [SignalFile], isDurable: Bool = false) -> [Errno] {
        var failures: [Errno] = []
        for file in files {
            guard let (content, revision) = file.beginWriteback(isDurable: isDurable) else { continue }
            var failure: Errno?
            var backingTime: WallTime?
            do throws(Errno) {
                try withDirectory(of: file) { (directory) throws(Errno) in
                    backingTime = try BackingDocument.replace(
                        file.name, in: directory, with: content, now: .now, isDurable: isDurable)
                }
            } catch {
                failure = error
            }
            let isSettled = file.endWriteback(
                of: revision, isDurable: isDurable, succeeded: failure == nil, backingTime: backingTime)
            guard !isSettled, let failure else { continue }
            failures.append(failure)
            log.error("cannot write \(String(printable: file.path)) down: \(failure)")
            note(file)
        }
        return failures
    }

    private func withDirectory(
        of file: SignalFile, _ body: (_ directory: CInt) throws(Errno) -> Void
    ) throws(Errno) {
        try backing.withDirectory(at: file.directory.path, body)
    }
}

extension Descriptor {
    /// A directory by its path beneath this one, following no symbolic link.
    func directory(at path: [UInt8]) throws(Errno) -> Descriptor {
        var reached = self
        for component in path.split(separator: UInt8(ascii: "/")) {
            let opened = try NodeName(component).withPointer { (name) throws(Errno) in
                try OwnedDescriptor(opening: name, in: reached.rawValue, O_PATH | O_NOFOLLOW | O_DIRECTORY)
            }
            reached = Descriptor(opened)
        }
        return reached
    }

    /// Calls `body` with the descriptor of a directory beneath this one.
    func withDirectory(
        at path: [UInt8], _ body: (_ directory: CInt) throws(Errno) -> Void
    ) throws(Errno) {
        let directory = try directory(at: path)
        try body(directory.rawValue)
    }
}
