import Linux
import Liveness
import Logging
import Synchronization
import SystemPackage

/// The thread that writes dirty documents back to their backing files, some seconds after a change or on request.
///
/// There is one thread, so that two documents of one file are written in order. It sleeps while nothing is dirty.
final class Writeback: Sendable {
    private struct State {
        var waiting: [ObjectIdentifier: SignalFile] = [:]
        /// When the documents in `waiting` are due; nil if there are none.
        var due: ContinuousClock.Instant?
        var orders: [Order] = []
        var isClosing = false
        /// The thread has ended and serves no more orders.
        var hasEnded = false
        var failed = 0
    }

    /// Files to be written at once, with a waiting caller.
    private final class Order: Sendable {
        let files: [SignalFile]
        let isSynced: Bool
        let done: EventFD
        let failure = Mutex<Errno?>(nil)

        init(_ files: [SignalFile], isSynced: Bool) throws(Errno) {
            self.files = files
            self.isSynced = isSynced
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
        // Not joined: `close` waits for `ended`, and without `close` the thread ends with the process.
        _ = try Thread(named: "write-back") { self.run() }
    }

    /// Schedules the write-back of a file that has changed.
    ///
    /// - Returns: False after the last write-back of `close`: the change will not reach the backing file.
    @discardableResult
    func schedule(_ file: SignalFile) -> Bool {
        let isFirst: Bool? = state.withLock { state in
            guard !state.hasEnded else { return nil }
            state.waiting[ObjectIdentifier(file)] = file
            guard state.due == nil else { return false }
            state.due = .now + delay
            return true
        }
        // Without waiting files, the thread sleeps without a limit.
        if isFirst == true { event.signal() }
        return isFirst != nil
    }

    /// Writes dirty files back before it returns, and waits for a write-back in progress.
    ///
    /// Do not call it under a lock.
    ///
    /// - Parameter isSynced: Also waits for the disk.
    /// - Returns: The first error. Its file stays scheduled.
    @discardableResult
    func writeNow(_ files: [SignalFile], isSynced: Bool = false) -> Errno? {
        files.isEmpty ? nil : carryOut(files, isSynced: isSynced)
    }

    /// Writes back all files that have changed, before it returns.
    func writeAll() {
        carryOut(state.withLock { Array($0.waiting.values) }, isSynced: false)
    }

    @discardableResult
    private func carryOut(_ files: [SignalFile], isSynced: Bool) -> Errno? {
        do throws(Errno) {
            let order = try Order(files, isSynced: isSynced)
            let hasEnded = state.withLock { state in
                if !state.hasEnded { state.orders.append(order) }
                return state.hasEnded
            }
            // `close` has written everything.
            if hasEnded { return nil }
            event.signal()
            order.done.wait()
            return order.failure.withLock { $0 }
        } catch {
            return error
        }
    }

    /// Number of dirty documents.
    var dirtyCount: Int {
        // `isRemoved` takes the file's lock, which comes before this one.
        state.withLock { Array($0.waiting.values) }.count { !$0.isRemoved }
    }

    /// Writes everything back and ends the thread.
    ///
    /// - Returns: The number of documents that could not be written.
    func close() -> Int {
        state.withLock { $0.isClosing = true }
        event.signal()
        ended.wait()
        // For a second call.
        ended.signal()
        return state.withLock { $0.failed }
    }

    // MARK: The thread

    private func run() {
        while true {
            let (due, isClosing) = state.withLock { ($0.due, $0.isClosing) }
            if !isClosing { event.wait(until: due) }
            let (files, orders, isLast) = nextWork(at: .now)
            var failed = write(files).count
            for order in orders {
                let failures = write(order.files, isSynced: order.isSynced)
                failed += failures.count
                order.failure.withLock { $0 = failures.first }
                order.done.signal()
            }
            if isLast {
                state.withLock { $0.failed = failed }
                ended.signal()
                return
            }
        }
    }

    private func nextWork(at now: ContinuousClock.Instant) -> (files: [SignalFile], orders: [Order], isLast: Bool) {
        state.withLock { state in
            var files: [SignalFile] = []
            if state.isClosing || state.due.map({ $0 <= now }) == true {
                files = Array(state.waiting.values)
                state.waiting = [:]
            }
            let orders = state.orders
            state.orders = []
            for file in orders.flatMap(\.files) { state.waiting[ObjectIdentifier(file)] = nil }
            if state.waiting.isEmpty { state.due = nil }
            state.hasEnded = state.isClosing
            return (files, orders, state.isClosing)
        }
    }

    /// Writes files back, and schedules those again that could not be written.
    ///
    /// - Returns: The errors.
    private func write(_ files: [SignalFile], isSynced: Bool = false) -> [Errno] {
        var failures: [Errno] = []
        for file in files {
            guard let (content, revision) = file.beginWriteback(isSynced: isSynced) else { continue }
            var failure: Errno?
            var backingTime: WallTime?
            do throws(Errno) {
                try backing.withDirectory(at: file.directory.path) { (directory) throws(Errno) in
                    backingTime = try BackingDocument.replace(
                        file.name, in: directory, with: content, now: .now, isSynced: isSynced)
                }
            } catch {
                failure = error
            }
            let isDone = file.endWriteback(
                of: revision, isSynced: isSynced, succeeded: failure == nil, backingTime: backingTime)
            guard !isDone, let failure else { continue }
            failures.append(failure)
            log.error("cannot write back \(String(printable: file.path)): \(failure)")
            schedule(file)
        }
        return failures
    }
}
