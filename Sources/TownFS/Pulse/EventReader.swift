import Fuse
import Glibc
import Liveness
import Synchronization
import SystemPackage

/// One opening of `.pulse/events`: whole lines, as many as fit into each read.
final class EventReader: OpenFile {
    /// How many events are copied while the table's lock is held.
    private static let batch = 64

    private struct State {
        /// The number of the next event.
        var next: UInt64
        /// Of a line that was longer than what its reader had room for.
        var rest: ArraySlice<UInt8> = []
        var waiting: [PendingRead] = []
        /// Of whoever waits in poll(2) for something to happen after event number `polledAt`.
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

    /// Whether somebody waits, for something to read or for word that there is.
    var isWaiting: Bool { state.withLock { !$0.waiting.isEmpty || $0.pollHandle != nil } }

    func openReply(_ handle: FileHandle) -> OpenReply {
        OpenReply(handle: handle, ioMode: .direct, needsFlush: false, isStream: true)
    }

    /// EAGAIN when nothing has happened yet.
    func read(into room: UnsafeMutableRawBufferPointer, at offset: off_t) throws(Errno) -> Int {
        let count = state.withLock { take(&$0, into: room) }
        guard count > 0 || room.isEmpty else { throw .resourceTemporarilyUnavailable }
        return count
    }

    /// Takes over a read that has found nothing.
    func wait(_ read: PendingRead) {
        state.withLock { state in
            // Of those whose callers were interrupted nothing else tells.
            state.waiting.removeAll { $0.isAnswered }
            state.waiting.append(read)
        }
        stream.await(self)
        // What has happened meanwhile rings no bell.
        serve()
    }

    /// What poll(2) is to say, and whom to tell when something happens.
    func poll(_ pollHandle: PollHandle?) -> UInt32 {
        let last = liveness.lastEvent
        // Freed outside the lock.
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

    /// Answers those who wait, if there is something for them.
    func serve() {
        let pollHandle: PollHandle? = state.withLock { state in
            state.waiting.removeAll { $0.isAnswered }
            while hasNews(state), let read = state.waiting.first {
                state.waiting.removeFirst()
                // Under the lock, lest another reader of this opening take what this one is to get: the kernel takes an
                // answer without making anybody wait. One whose caller has just been interrupted takes nothing.
                read.answer { (room) in take(&state, into: room) }
            }
            guard state.pollHandle != nil, liveness.lastEvent > state.polledAt else { return nil }
            defer { state.pollHandle = nil }
            return state.pollHandle
        }
        pollHandle?.notify()
    }

    private func hasNews(_ state: State) -> Bool { !state.rest.isEmpty || state.next <= liveness.lastEvent }

    /// Whole lines as far as there is room for them, or a part of one where there is not.
    ///
    /// - Returns: 0 when nothing has happened.
    private func take(_ state: inout State, into room: UnsafeMutableRawBufferPointer) -> Int {
        var free = room
        func copy(_ bytes: ArraySlice<UInt8>) {
            free.copyBytes(from: bytes)
            free = UnsafeMutableRawBufferPointer(rebasing: free[bytes.count...])
        }
        /// Whether there was room for the line.
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
                stream.noteLost(UInt64(lost.count))
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
