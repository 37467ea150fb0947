import DequeModule
import Glibc
import Synchronization
import SystemPackage

/// A read(2) that waits for bytes, without a thread.
///
/// Answered once: by the file system when there are bytes, by an interrupt of the caller, or by the end of the
/// connection. Any thread may answer. A read that is never answered ends when its caller is interrupted or killed.
public final class PendingRead: Sendable {
    /// The most bytes the caller takes.
    public let capacity: Int

    private let unique: UInt64
    private let reads: PendingReads
    private let hasAnswer = Atomic(false)

    fileprivate init(_ unique: UInt64, capacity: Int, of reads: PendingReads) {
        self.unique = unique
        self.capacity = capacity
        self.reads = reads
    }

    /// The request's number, as it was first sent.
    public var request: UInt64 { unique & ~(1 << 63) }

    /// Whether the read has been answered, by whichever side.
    public var isAnswered: Bool { hasAnswer.load(ordering: .acquiring) }

    /// Answers with up to `capacity` bytes that `fill` writes, or with the errno it throws.
    ///
    /// `fill` is not called if the read was answered before, so it may consume the bytes it hands out. The kernel takes
    /// the answer also when the caller has been interrupted meanwhile: read(2) then returns the bytes.
    ///
    /// - Returns: Whether this was the answer.
    @discardableResult
    public func answer(_ fill: (UnsafeMutableRawBufferPointer) throws(Errno) -> Int) -> Bool {
        guard hasAnswer.compareExchange(expected: false, desired: true, ordering: .acquiringAndReleasing).exchanged
        else { return false }
        reads.remove(unique)
        // Refused only when the connection is being torn down, and then no caller is left.
        withUnsafeTemporaryAllocation(byteCount: capacity, alignment: 16) { room in
            do throws(Errno) {
                let count = try fill(room)
                _ = reads.transport.reply(
                    to: unique, error: nil, UnsafeRawBufferPointer(rebasing: room.prefix(count)))
            } catch {
                _ = reads.transport.reply(to: unique, error: error)
            }
        }
        return true
    }

    /// Answers with an errno.
    @discardableResult
    public func fail(_ error: Errno) -> Bool { answer { (_) throws(Errno) in throw error } }
}

/// The pending reads of one connection, and the interrupts that concern them.
final class PendingReads: Sendable {
    private struct State {
        var reads: [UInt64: PendingRead] = [:]
        /// Interrupts that came before their read was added: another thread has just taken that request.
        var early = Deque<(interrupted: UInt64, unique: UInt64)>()
        var hasEnded = false
    }

    /// Maximum number of early interrupts remembered.
    private static let earlyCapacity = 64

    fileprivate let transport: any Transport
    private let state = Mutex(State())

    init(over transport: any Transport) { self.transport = transport }

    /// Adds a read, which may be answered before this returns.
    func add(_ unique: UInt64, capacity: Int) -> PendingRead {
        let read = PendingRead(unique, capacity: capacity, of: self)
        let failure: Errno? = state.withLock { state in
            if state.hasEnded { return Errno(rawValue: ENODEV) }
            state.reads[unique] = read
            guard let index = state.early.firstIndex(where: { $0.interrupted == unique }) else { return nil }
            state.early.remove(at: index)
            return .interrupted
        }
        if let failure { read.fail(failure) }
        return read
    }

    fileprivate func remove(_ unique: UInt64) { state.withLock { _ = $0.reads.removeValue(forKey: unique) } }

    /// Ends a read, or a request that no thread has begun to serve, with EINTR.
    ///
    /// Operations that are running are not interrupted. Their interrupts are remembered like early ones, and dropped when
    /// there are too many: EAGAIN then has the kernel send the interrupt again if its request still runs.
    ///
    /// - Parameter unique: The interrupt's own number.
    func interrupt(_ interrupted: UInt64, by unique: UInt64) {
        if transport.cancel(interrupted) {
            _ = transport.reply(to: interrupted, error: .interrupted)
            return
        }
        let (read, dropped): (PendingRead?, UInt64?) = state.withLock { state in
            if let read = state.reads[interrupted] { return (read, nil) }
            state.early.append((interrupted, unique))
            return (nil, state.early.count > Self.earlyCapacity ? state.early.removeFirst().unique : nil)
        }
        read?.fail(.interrupted)
        if let dropped { _ = transport.reply(to: dropped, error: .resourceTemporarilyUnavailable) }
    }

    /// Fails all reads with ENODEV, and those that are still added: the connection has ended.
    func end() {
        let reads = state.withLock { state in
            state.hasEnded = true
            return Array(state.reads.values)
        }
        for read in reads { read.fail(Errno(rawValue: ENODEV)) }
    }
}
