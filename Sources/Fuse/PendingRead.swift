import CFuse
import Glibc
import Synchronization
import SystemPackage

/// A read(2) that waits for something to be read, without a thread.
///
/// Answered once, by whoever is first: the file system when there is something, the caller's being interrupted, or the
/// end of the connection. Any thread may answer. What is never answered waits until its caller is interrupted or killed.
public final class PendingRead: Sendable {
    /// The most bytes that the caller takes.
    public let capacity: Int

    // because libfuse frees a request with the reply to it, which `isAnswered` lets happen once.
    private nonisolated(unsafe) let request: fuse_req_t
    private let served: Session.Served
    private let hasAnswer = Atomic(false)

    fileprivate init(_ request: fuse_req_t, capacity: Int, of served: Session.Served) {
        self.request = request
        self.capacity = capacity
        self.served = served
    }

    /// Whether nobody waits any more.
    public var isAnswered: Bool { hasAnswer.load(ordering: .acquiring) }

    /// Answers with up to `capacity` bytes that `fill` writes, or with what it throws.
    ///
    /// `fill` is not called when somebody else was first, so that it may take what it hands out from where it lies. The
    /// kernel takes an answer also when the caller has been interrupted meanwhile: read(2) then returns the bytes. Only of
    /// a connection that is being torn down it takes none, and nobody is left who would miss them.
    ///
    /// - Returns: Whether this was the answer.
    @discardableResult
    public func answer(_ fill: (UnsafeMutableRawBufferPointer) throws(Errno) -> Int) -> Bool {
        guard claim() else { return false }
        ReplyBuffer.withBytes(capacity) { room in
            do throws(Errno) {
                let count = try fill(room)
                fuse_reply_buf(request, room.baseAddress?.assumingMemoryBound(to: CChar.self), count)
            } catch {
                fuse_reply_err(request, error.rawValue)
            }
        }
        return true
    }

    /// Answers with an errno.
    @discardableResult
    public func fail(_ error: Errno) -> Bool {
        answer { (_) throws(Errno) in throw error }
    }

    private func claim() -> Bool {
        guard hasAnswer.compareExchange(expected: false, desired: true, ordering: .acquiringAndReleasing).exchanged
        else { return false }
        // Waits for an interrupt that is just being told: afterwards libfuse knows nothing of this object.
        fuse_req_interrupt_func(request, nil, nil)
        served.waiting.remove(self)
        return true
    }

    /// Has libfuse say when the caller is interrupted, which may have happened already.
    fileprivate func watchForInterrupts() {
        // because `PendingReads` holds it until `claim` has taken the pointer back.
        let own = Unmanaged.passUnretained(self).toOpaque()
        fuse_req_interrupt_func(
            request,
            { _, read in
                // Called with a lock of libfuse's held, which a reply takes too: it is left to the thread that has read the
                // interrupt.
                let read = Unmanaged<PendingRead>.fromOpaque(read!).takeUnretainedValue()
                read.served.waiting.noteInterrupted(read)
            }, own)
    }
}

/// The reads of one connection that wait.
final class PendingReads: Sendable {
    private struct State {
        var all: [ObjectIdentifier: PendingRead] = [:]
        var interrupted: [PendingRead] = []
        var hasEnded = false
    }

    private let state = Mutex(State())
    /// Spares the lock where nobody has been interrupted.
    private let hasInterrupted = Atomic(false)

    /// Makes a request one that waits.
    func add(_ request: fuse_req_t, capacity: Int, of served: Session.Served) -> PendingRead {
        let read = PendingRead(request, capacity: capacity, of: served)
        let hasEnded = state.withLock { state in
            state.all[ObjectIdentifier(read)] = read
            return state.hasEnded
        }
        if hasEnded { read.fail(Errno(rawValue: ENODEV)) } else { read.watchForInterrupts() }
        return read
    }

    fileprivate func remove(_ read: PendingRead) {
        state.withLock { $0.all[ObjectIdentifier(read)] = nil }
    }

    fileprivate func noteInterrupted(_ read: PendingRead) {
        state.withLock { $0.interrupted.append(read) }
        hasInterrupted.store(true, ordering: .releasing)
    }

    /// Answers EINTR to those whose callers do not want to wait any longer.
    func answerInterrupted() {
        guard hasInterrupted.load(ordering: .acquiring) else { return }
        let interrupted = state.withLock { state in
            hasInterrupted.store(false, ordering: .relaxed)
            defer { state.interrupted = [] }
            return state.interrupted
        }
        for read in interrupted { read.fail(.interrupted) }
    }

    /// Lets go of all that wait, as the connection has ended.
    func end() {
        let all = state.withLock { state in
            state.hasEnded = true
            return Array(state.all.values)
        }
        for read in all { read.fail(Errno(rawValue: ENODEV)) }
    }
}
