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
/// which sleeps while there is none. A slow reader delays nobody else. It loses events that are not held any more, and
/// reads how many.
///
/// Lock order: this one's, then an `EventReader`'s, then the liveness table's.
final class EventStream: Sendable {
    /// The most readers.
    ///
    /// Each is an open file.
    static let mostReaders = 1024

    private struct State {
        var readers = 0
        var waiting: [ObjectIdentifier: EventReader] = [:]
        var hasStarted = false
        var isClosing = false
        var hasEnded = false
    }

    private let liveness: InMemoryLivenessStore
    private let bell: TableNotifier
    private let wallTime: @Sendable () -> WallTime
    private let ended: EventFD
    private let state = Mutex(State())
    private let missed = Atomic<UInt64>(0)

    init(
        of liveness: InMemoryLivenessStore, bell: TableNotifier, wallTime: @escaping @Sendable () -> WallTime
    ) throws(Errno) {
        self.liveness = liveness
        self.bell = bell
        self.wallTime = wallTime
        ended = try EventFD()
    }

    /// How many readers there are.
    var readerCount: Int { state.withLock { $0.readers } }
    /// How many events slow readers have lost, in total.
    var lost: UInt64 { missed.load(ordering: .relaxed) }

    func countLost(_ count: UInt64) { missed.wrappingAdd(count, ordering: .relaxed) }

    /// Whether a number is that of an event, or of the next one.
    func hasBegun(_ number: UInt64) -> Bool { (1...liveness.lastEvent + 1).contains(number) }

    /// Opens a reader.
    ///
    /// ENFILE if there are too many.
    ///
    /// - Parameter number: Of its first event; nil is the next one.
    func open(from number: UInt64?) throws(Errno) -> EventReader {
        let isStarting = try state.withLock { (state) throws(Errno) in
            guard state.readers < Self.mostReaders else { throw .tooManyOpenFilesInSystem }
            state.readers += 1
            defer { state.hasStarted = true }
            return !state.hasStarted && !state.isClosing
        }
        if isStarting {
            do throws(Errno) {
                // Not joined: `close` waits for `ended`.
                _ = try Thread(named: "events") { self.run() }
            } catch {
                state.withLock { state in
                    state.readers -= 1
                    state.hasStarted = false
                }
                throw error
            }
        }
        return EventReader(of: self, liveness, from: number ?? liveness.lastEvent + 1, wallTime: wallTime)
    }

    func close(_ reader: EventReader) {
        state.withLock { state in
            state.readers -= 1
            state.waiting[ObjectIdentifier(reader)] = nil
        }
    }

    /// Makes the next event wake a reader.
    func await(_ reader: EventReader) {
        state.withLock { state in
            state.waiting[ObjectIdentifier(reader)] = reader
            bell.awaitEvent()
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

    /// Ends the thread.
    ///
    /// Pending reads end with the mount.
    func close() {
        let hasStarted = state.withLock { state in
            state.isClosing = true
            return state.hasStarted
        }
        guard hasStarted else { return }
        bell.events.signal()
        ended.wait()
        // For a second call.
        ended.signal()
    }

    private func run() {
        while true {
            bell.events.wait()
            let readers: [EventReader]? = state.withLock { state in
                if state.isClosing { return nil }
                // Before they are served: events that come meanwhile signal again.
                if !state.waiting.isEmpty { bell.awaitEvent() }
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
    /// The most events copied under the table's lock.
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
    }

    private let stream: EventStream
    private let liveness: InMemoryLivenessStore
    private let wallTime: @Sendable () -> WallTime
    private let state: Mutex<State>

    init(
        of stream: EventStream, _ liveness: InMemoryLivenessStore, from next: UInt64,
        wallTime: @escaping @Sendable () -> WallTime
    ) {
        self.stream = stream
        self.liveness = liveness
        self.wallTime = wallTime
        state = Mutex(State(next: next))
    }

    /// Whether a read or a poll waits.
    var isWaiting: Bool { state.withLock { !$0.waiting.isEmpty || $0.pollHandle != nil } }

    func openReply(_ handle: FileHandle) -> OpenReply {
        OpenReply(handle: handle, ioMode: .direct, needsFlush: false, isStream: true)
    }

    /// EAGAIN if there is no event yet; 0 at the end of the stream.
    func read(into room: UnsafeMutableRawBufferPointer, at offset: off_t) throws(Errno) -> Int {
        let hasEnded = stream.hasEnded
        let count = state.withLock { take(&$0, into: room) }
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
        let last = liveness.lastEvent
        // Released outside the lock.
        let former: PollHandle? = state.withLock { state in
            guard let pollHandle else { return nil }
            defer { (state.pollHandle, state.polledAt) = (pollHandle, last) }
            return state.pollHandle
        }
        withExtendedLifetime(former) {}
        if pollHandle != nil {
            stream.await(self)
            serve()
        }
        if stream.hasEnded { return UInt32(POLLIN | POLLRDNORM | POLLHUP) }
        return state.withLock { hasNews($0) } ? UInt32(POLLIN | POLLRDNORM) : 0
    }

    func close() {
        stream.close(self)
        let former = state.withLock { state in
            defer { state.pollHandle = nil }
            return state.pollHandle
        }
        withExtendedLifetime(former) {}
    }

    /// Answers waiting reads and polls, if there are events or the stream has ended.
    func serve() {
        let hasEnded = stream.hasEnded
        let pollHandle: PollHandle? = state.withLock { state in
            state.waiting.removeAll { $0.isAnswered }
            while hasNews(state) || hasEnded, let read = state.waiting.first {
                state.waiting.removeFirst()
                // Under the lock: another read of this handle must not get these events. The kernel takes a reply
                // without blocking. An interrupted read takes none.
                read.answer { (room) in take(&state, into: room) }
            }
            guard state.pollHandle != nil, liveness.lastEvent > state.polledAt || hasEnded else { return nil }
            defer { state.pollHandle = nil }
            return state.pollHandle
        }
        pollHandle?.notify()
    }

    private func hasNews(_ state: State) -> Bool { !state.rest.isEmpty || state.next <= liveness.lastEvent }

    /// Copies whole lines, or a part of a line if none fits.
    ///
    /// - Returns: 0 if there is no event.
    private func take(_ state: inout State, into room: UnsafeMutableRawBufferPointer) -> Int {
        var free = room
        func copy(_ bytes: ArraySlice<UInt8>) {
            free.copyBytes(from: bytes)
            free = UnsafeMutableRawBufferPointer(rebasing: free[bytes.count...])
        }
        /// Returns whether the line fitted.
        func add(_ line: [UInt8]) -> Bool {
            if line.count <= free.count {
                copy(line[...])
                return true
            }
            guard free.count == room.count else { return false }
            state.rest = line.dropFirst(free.count)
            copy(line.prefix(free.count))
            return true
        }
        copy(state.rest.prefix(free.count))
        state.rest = state.rest.dropFirst(room.count)
        if state.rest.isEmpty { state.rest = [] }
        while !free.isEmpty {
            let excerpt = liveness.events(from: state.next, limit: Self.batch)
            if let lost = excerpt.lost {
                guard add(LivenessEvent.line(ofLost: lost, at: wallTime())) else { break }
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
