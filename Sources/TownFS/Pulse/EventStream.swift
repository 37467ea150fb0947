import Fuse
import Glibc
import Linux
import Liveness
import Logging
import Synchronization
import SystemPackage

/// `.pulse/events`: what happens, as lines of JSON, to any number of readers that each go at their own pace.
///
///     touch ──▶ EventLog ──bell──▶ one thread ──answers──▶ readers that wait
///                   ▲─────────────────────────── readers that read
///
/// A reader is a number: that of the next event. One that waits leaves its request, or its poll handle, with the one
/// thread, which sleeps as long as nobody waits. So a reader that is slow or stuck costs nobody anything, and misses what
/// is not held any more, which it is told.
///
/// Lock order: this one's, then an `EventReader`'s, then the liveness table's.
final class EventStream: Sendable {
    /// More are refused: each is somebody's open file, and costs nothing else.
    static let mostReaders = 1024

    private struct State {
        var readers = 0
        var waiting: [ObjectIdentifier: EventReader] = [:]
        var hasStarted = false
        var isClosing = false
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

    /// How many have it open.
    var readerCount: Int { state.withLock { $0.readers } }
    /// How many events readers were too slow for, all of them together.
    var lost: UInt64 { missed.load(ordering: .relaxed) }

    func noteLost(_ count: UInt64) { missed.wrappingAdd(count, ordering: .relaxed) }

    /// Whether events can be asked for from this number on: one that there was, or the next.
    func hasBegun(_ number: UInt64) -> Bool { (1...liveness.lastEvent + 1).contains(number) }

    /// A new reader.
    ///
    /// ENFILE when there are too many.
    ///
    /// - Parameter number: Of the first event that it reads; nil for what happens from now on.
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

    /// Has a reader served when something happens.
    func await(_ reader: EventReader) {
        state.withLock { state in
            state.waiting[ObjectIdentifier(reader)] = reader
            bell.awaitEvent()
        }
    }

    /// Ends the thread; who waits then is let go of with the mount.
    func close() {
        let hasStarted = state.withLock { state in
            state.isClosing = true
            return state.hasStarted
        }
        guard hasStarted else { return }
        bell.events.raise()
        ended.wait()
        // For whoever asks again.
        ended.raise()
    }

    private func run() {
        while true {
            bell.events.wait()
            let readers: [EventReader]? = state.withLock { state in
                if state.isClosing { return nil }
                // Before they are served: what comes meanwhile rings again.
                if !state.waiting.isEmpty { bell.awaitEvent() }
                return Array(state.waiting.values)
            }
            guard let readers else { break }
            for reader in readers { reader.serve() }
            state.withLock { state in
                for reader in readers where !reader.isWaiting { state.waiting[ObjectIdentifier(reader)] = nil }
            }
        }
        ended.raise()
    }
}
