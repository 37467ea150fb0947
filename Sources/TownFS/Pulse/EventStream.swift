import Fuse
import Glibc
import Linux
import Liveness
import Logging
import Synchronization
import SystemPackage

/// `.pulse/events`: events as lines of JSON, for any number of readers at their own pace.
///
///     touch ──▶ EventLog ──notifier──▶ one thread ──replies──▶ pending reads
///                   ▲───────────────────────────── reads
///
/// A reader is the number of its next event. One that waits leaves its request, or its poll handle, with the thread,
/// which sleeps while there is none. A slow reader delays no other. It loses events that are not held any more, and
/// reads how many.
///
/// Lock order: this one's, then an `EventReader`'s, then the liveness table's.
final class EventStream: Sendable {
    static let maximumReaders = 1024

    private struct State {
        var readers = 0
        var waiting: [ObjectIdentifier: EventReader] = [:]
        var isClosing = false
        var hasEnded = false
    }

    fileprivate let liveness: InMemoryLivenessStore
    fileprivate let wallTime: @Sendable () -> WallTime
    private let notifier: TableNotifier
    private let ended: EventFD
    private let state = Mutex(State())
    private let counters: Counters

    init(
        of liveness: InMemoryLivenessStore, notifier: TableNotifier, counters: Counters,
        wallTime: @escaping @Sendable () -> WallTime
    ) throws(Errno) {
        self.liveness = liveness
        self.notifier = notifier
        self.counters = counters
        self.wallTime = wallTime
        ended = try EventFD()
        // Not joined: `close` waits for `ended`.
        _ = try Thread(named: "events") { self.run() }
    }

    var readerCount: Int { state.withLock { $0.readers } }

    /// The number of events that slow readers have lost.
    var lost: UInt64 { counters.eventsLost }

    fileprivate func countLost(_ count: UInt64) { counters.countLostEvents(count) }

    /// Whether a number is that of an event, or of the next one.
    func hasBegun(_ number: UInt64) -> Bool { (1...liveness.lastEvent + 1).contains(number) }

    /// Opens a reader.
    ///
    /// - Parameter number: Of its first event; nil is the next one.
    /// - Throws: ENFILE if there are too many.
    func open(from number: UInt64?) throws(Errno) -> EventReader {
        try state.withLock { (state) throws(Errno) in
            guard state.readers < Self.maximumReaders else { throw .tooManyOpenFilesInSystem }
            state.readers += 1
        }
        return EventReader(of: self, from: number ?? liveness.lastEvent + 1)
    }

    fileprivate func close(_ reader: EventReader) {
        state.withLock { state in
            state.readers -= 1
            state.waiting[ObjectIdentifier(reader)] = nil
        }
    }

    /// Makes the next event wake a reader.
    fileprivate func await(_ reader: EventReader) {
        state.withLock { state in
            state.waiting[ObjectIdentifier(reader)] = reader
            notifier.awaitEvent()
        }
    }

    /// Whether there will be no more events: the mount is detached.
    var hasEnded: Bool { state.withLock { $0.hasEnded } }

    /// Ends the stream: readers find its end after the events so far, and polls hang up.
    func end() {
        let waiting = state.withLock { state in
            state.hasEnded = true
            return Array(state.waiting.values)
        }
        for reader in waiting { reader.serve() }
    }

    /// Ends the thread; pending reads end with the mount.
    func close() {
        state.withLock { $0.isClosing = true }
        notifier.events.signal()
        ended.wait()
        // For a second call.
        ended.signal()
    }

    private func run() {
        while true {
            notifier.events.wait()
            let readers: [EventReader]? = state.withLock { state in
                if state.isClosing { return nil }
                // Before they are served: events that come meanwhile signal again.
                if !state.waiting.isEmpty { notifier.awaitEvent() }
                return Array(state.waiting.values)
            }
            guard let readers else { break }
            for reader in readers { reader.serve() }
            state.withLock { state in
                for reader in readers where !reader.isWaiting { state.waiting[ObjectIdentifier(reader)] = nil }
            }
        }
        ended.signal()
    }
}

/// One opening of `.pulse/events`: whole lines, as many as fit into each read.
final class EventReader: OpenFile {
    /// The maximum number of events copied under the table's lock.
    private static let batch = 64

    private struct State {
        /// The number of the next event.
        var next: UInt64
        /// The rest of a line that was longer than the reader's buffer.
        var rest: ArraySlice<UInt8> = []
        var waiting: [PendingRead] = []
        /// A poll(2) that waits for an event after `polledAt`.
        var pollHandle: PollHandle?
        var polledAt: UInt64 = 0
        var record: HandleRecord?
        /// The request of the read that comes next.
        var request: UInt64 = 0
        /// A read of an earlier process, and where it began: if it is repeated, it was not answered.
        var repeatable: (request: UInt64, position: UInt64)?
    }

    private let stream: EventStream
    private let state: Mutex<State>

    init(of stream: EventStream, from next: UInt64) {
        self.stream = stream
        state = Mutex(State(next: next))
    }

    func opened(as record: HandleRecord) {
        state.withLock { state in
            state.record = record
            record.set(position: state.next)
        }
    }

    /// Takes over from an earlier process.
    func restore(lastRead request: UInt64, from position: UInt64) {
        state.withLock { $0.repeatable = (request, position) }
    }

    func willRead(_ request: UInt64) {
        state.withLock { state in
            state.request = request
            if let repeatable = state.repeatable.take(), repeatable.request == request {
                state.next = repeatable.position
            }
        }
    }

    /// Whether a read or a poll waits.
    var isWaiting: Bool { state.withLock { !$0.waiting.isEmpty || $0.pollHandle != nil } }

    func openReply(_ handle: FileHandle) -> OpenReply {
        OpenReply(handle: handle, ioMode: .direct, needsFlush: false, isStream: true)
    }

    /// - Returns: 0 at the end of the stream.
    /// - Throws: EAGAIN if there is no event yet.
    func read(into room: UnsafeMutableRawBufferPointer, at offset: off_t) throws(Errno) -> Int {
        let hasEnded = stream.hasEnded
        let count = state.withLock { copyEvents(&$0, into: room) }
        guard count > 0 || room.isEmpty || hasEnded else { throw .resourceTemporarilyUnavailable }
        return count
    }

    /// Answers a read later.
    func wait(_ read: PendingRead) {
        state.withLock { state in
            // Interrupted reads are removed only here.
            state.waiting.removeAll { $0.isAnswered }
            state.waiting.append(read)
        }
        stream.await(self)
        // Events that came before `await` do not signal.
        serve()
    }

    /// The mask for poll(2), and a handle to notify when it changes.
    func poll(_ pollHandle: PollHandle?) -> UInt32 {
        let last = stream.liveness.lastEvent
        if let pollHandle {
            // Released outside the lock.
            let former = state.withLock { state in
                state.record?.set(pollHandle)
                defer { (state.pollHandle, state.polledAt) = (pollHandle, last) }
                return state.pollHandle
            }
            withExtendedLifetime(former) {}
            stream.await(self)
            serve()
        }
        if stream.hasEnded { return UInt32(POLLIN | POLLRDNORM | POLLHUP) }
        return state.withLock { hasNews($0) } ? UInt32(POLLIN | POLLRDNORM) : 0
    }

    func close() {
        stream.close(self)
        let former = state.withLock { $0.pollHandle.take() }
        withExtendedLifetime(former) {}
    }

    /// Answers waiting reads and polls, if there are events or the stream has ended.
    func serve() {
        let hasEnded = stream.hasEnded
        let pollHandle: PollHandle? = state.withLock { state in
            state.waiting.removeAll { $0.isAnswered }
            while hasNews(state) || hasEnded, let read = state.waiting.first {
                state.waiting.removeFirst()
                state.request = read.request
                // Under the lock: another read of this handle must not get these events. The kernel takes a reply
                // without blocking. An interrupted read takes none.
                read.answer { (room) in copyEvents(&state, into: room) }
            }
            return stream.liveness.lastEvent > state.polledAt || hasEnded ? state.pollHandle.take() : nil
        }
        pollHandle?.notify()
    }

    private func hasNews(_ state: State) -> Bool { !state.rest.isEmpty || state.next <= stream.liveness.lastEvent }

    /// Copies whole lines, or a part of a line if none fits.
    ///
    /// - Returns: 0 if there is no event.
    private func copyEvents(_ state: inout State, into room: UnsafeMutableRawBufferPointer) -> Int {
        var free = room
        func copy(_ bytes: ArraySlice<UInt8>) {
            free.copyBytes(from: bytes)
            free = UnsafeMutableRawBufferPointer(rebasing: free[bytes.count...])
        }
        /// Returns whether the line fitted.
        ///
        /// After a full reply the kernel reads on, into what is left of the caller's buffer: maybe less than a line. So
        /// only the first line may fill the room.
        func add(_ line: [UInt8]) -> Bool {
            let isFirst = free.count == room.count
            if line.count < free.count || isFirst && line.count == free.count {
                copy(line[...])
                return true
            }
            guard isFirst else { return false }
            state.rest = line.dropFirst(free.count)
            copy(line.prefix(free.count))
            return true
        }
        copy(state.rest.prefix(free.count))
        state.rest = state.rest.dropFirst(room.count)
        if state.rest.isEmpty { state.rest = [] }
        let first = state.next
        defer { state.record?.set(position: state.next, from: first, by: state.request) }
        while !free.isEmpty {
            let excerpt = stream.liveness.events(from: state.next, limit: Self.batch)
            if let lost = excerpt.lost {
                guard add(LivenessEvent.line(ofLost: lost, at: stream.wallTime())) else { break }
                state.next = excerpt.first
                stream.countLost(UInt64(lost.count))
            }
            for event in excerpt.events {
                guard !free.isEmpty, add(event.line(number: state.next)) else { return room.count - free.count }
                state.next += 1
            }
            if excerpt.events.isEmpty { break }
        }
        return room.count - free.count
    }
}
