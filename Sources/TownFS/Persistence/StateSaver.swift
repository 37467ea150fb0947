import Linux
import Logging
import Synchronization
import SystemPackage

/// The thread that saves the state file some seconds after a change: after a power cut it is as old as the documents.
final class StateSaver: Sendable {
    private let file: StateFile
    private let journal: Journal
    private let delay: Duration
    private let log: Logger
    private let isChanged = Atomic(false)
    private let isClosing = Atomic(false)
    private let event: EventFD
    private let ended: EventFD

    init(_ file: StateFile, journal: Journal, delay: Duration, log: Logger) throws(Errno) {
        self.file = file
        self.journal = journal
        self.delay = delay
        self.log = log
        event = try EventFD()
        ended = try EventFD()
        // Not joined: `close` waits for `ended`.
        _ = try Thread(named: "state") { self.run() }
    }

    /// To be called after each change; costs a look at one word.
    func noteChange() {
        if isChanged.load(ordering: .relaxed) || isChanged.exchange(true, ordering: .relaxed) { return }
        event.signal()
    }

    /// Saves what has changed, and ends the thread.
    func close() {
        isClosing.store(true, ordering: .releasing)
        event.signal()
        ended.wait()
        // For a second call.
        ended.signal()
    }

    private func run() {
        var hasFailed = false
        while true {
            event.wait()
            // The only further signal is that of `close`.
            if !isClosing.load(ordering: .acquiring) { event.wait(until: .now + delay) }
            let isLast = isClosing.load(ordering: .acquiring)
            if isChanged.exchange(false, ordering: .relaxed) {
                do throws(Errno) {
                    try file.save(journal)
                    hasFailed = false
                } catch {
                    if !hasFailed { log.error("cannot save the state of the runtimes: \(error)") }
                    hasFailed = true
                }
            }
            if isLast { break }
        }
        ended.signal()
    }
}
