import CLinux
import Glibc
import Synchronization
import SystemPackage

/// What a successor needs to go on with a connection, in memory that outlives the process that serves it.
///
///     │ generation │ size of INIT │ INIT ··· │ bank 0: one record a thread │ bank 1 │ … │
///
/// A *generation* is one process that serves the connection. Each has a bank of operation records of its own and reads
/// those of the generations before it once, at its start. It never writes to them, so a second death in a row loses
/// nothing. The kernel never reuses the unique number of a request, so an old record matches no other request.
///
/// A kill between any two stores leaves it valid: bytes are written before the word that publishes them.
///
/// Thread-safe.
public final class ConnectionState: Sendable {
    /// Size in bytes.
    ///
    /// Only pages that were written to take memory.
    public static let size = bankStart + bankCount * bankSize

    private static let initCapacity = 4096 - initStart
    private static let initStart = 64
    private static let bankStart = 4096
    /// After so many generations a bank is used again.
    private static let bankCount = 64
    /// Records in a bank: more than a connection has threads.
    private static let recordCount = 72
    private static let bankSize = recordCount * OperationRecord.size

    // because the owner keeps the memory mapped, and words that several threads use are accessed atomically.
    private nonisolated(unsafe) let base: UnsafeMutableRawPointer
    private let owner: any AnyObject & Sendable
    /// Records of the own bank that no thread has.
    private let unclaimed: Mutex<[Int]>
    /// What earlier generations had begun or finished, by unique number.
    private let inherited: [UInt64: OperationRecord.Content]
    private let bank: Int

    /// Begins a new generation.
    ///
    /// - Parameters:
    ///   - memory: `size` bytes: all zero before the first generation.
    ///   - owner: Keeps `memory` mapped.
    public init(in memory: UnsafeMutableRawPointer, owner: any AnyObject & Sendable) {
        base = memory
        self.owner = owner
        let word = memory.assumingMemoryBound(to: UInt64.self)
        let generation = Int(clinux_load_acquire(word))
        bank = generation % Self.bankCount
        var inherited: [UInt64: OperationRecord.Content] = [:]
        // Oldest first: a later attempt at the same request replaces an earlier one.
        for earlier in max(0, generation - Self.bankCount)..<generation {
            for index in 0..<Self.recordCount {
                let record = OperationRecord(at: Self.record(index, ofBank: earlier % Self.bankCount, in: memory))
                if let (unique, content) = record.content { inherited[unique] = content }
            }
        }
        self.inherited = inherited
        unclaimed = Mutex(Array((0..<Self.recordCount).reversed()))
        for index in 0..<Self.recordCount {
            OperationRecord(at: Self.record(index, ofBank: bank, in: memory)).end()
        }
        clinux_store_release(word, UInt64(generation + 1))
    }

    /// State in memory of this process alone, for a connection without a successor.
    public convenience init() {
        let memory = PrivateMemory(size: Self.size)
        self.init(in: memory.base, owner: memory)
    }

    /// How many processes have served the connection, this one included.
    public static func generations(in memory: UnsafeRawPointer) -> Int {
        Int(clinux_load_acquire(memory.assumingMemoryBound(to: UInt64.self)))
    }

    // MARK: INIT

    /// The INIT request as the kernel sent it, once it has come.
    public var initRequest: [UInt8]? { Self.initRequest(in: base) }

    private static func initRequest(in memory: UnsafeRawPointer) -> [UInt8]? {
        let size = Int(clinux_load_acquire((memory + 8).assumingMemoryBound(to: UInt64.self)))
        guard size > 0, size <= initCapacity else { return nil }
        return Array(UnsafeRawBufferPointer(start: memory + initStart, count: size))
    }

    /// Whether the connection has begun, and the kernel can be asked to send unanswered requests again
    /// (`FUSE_HAS_RESEND`, Linux 6.9).
    public static func canBeResumed(in memory: UnsafeRawPointer) -> Bool {
        initRequest(in: memory).map { Init.offersResend($0) } ?? false
    }

    /// Saves the INIT request.
    ///
    /// To be called before it is answered.
    func save(initRequest: [UInt8]) {
        precondition(initRequest.count <= Self.initCapacity)
        // because a request has a header.
        initRequest.withUnsafeBytes { (base + Self.initStart).copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
        clinux_store_release((base + 8).assumingMemoryBound(to: UInt64.self), UInt64(initRequest.count))
    }

    // MARK: Operation records

    /// What an earlier process did with a request that the kernel has sent again; nil if it had not begun.
    func inherited(_ unique: UInt64) -> OperationRecord.Content? {
        inherited.isEmpty ? nil : inherited[unique]
    }

    /// A record for a new thread, which is the caller; nil if there are none left.
    func claimRecord() -> OperationRecord? {
        let index = unclaimed.withLock { $0.popLast() }
        guard let index else { return nil }
        let record = OperationRecord(at: Self.record(index, ofBank: bank, in: base), index: index)
        record.setThread(gettid())
        return record
    }

    /// What the threads of the process that serves are executing, for another process.
    public static func executing(in memory: UnsafeMutableRawPointer) -> [(unique: UInt64, thread: pid_t)] {
        let generation = generations(in: memory) - 1
        guard generation >= 0 else { return [] }
        return (0..<recordCount).compactMap { index in
            OperationRecord(at: record(index, ofBank: generation % bankCount, in: memory)).executing
        }
    }

    func release(_ record: OperationRecord) {
        record.end()
        unclaimed.withLock { $0.append(record.index) }
    }

    private static func record(_ index: Int, ofBank bank: Int, in memory: UnsafeMutableRawPointer)
        -> UnsafeMutableRawPointer
    { memory + bankStart + bank * bankSize + index * OperationRecord.size }

    /// Zeroed memory, released with its last user.
    private final class PrivateMemory: Sendable {
        // because only `ConnectionState` uses it, as it uses shared memory.
        nonisolated(unsafe) let base: UnsafeMutableRawPointer

        init(size: Int) {
            // because calloc(3) fails only where no memory is left, and then nothing can be served.
            base = calloc(1, size)!
        }

        deinit { Glibc.free(base) }
    }
}

/// What one thread is doing: the request, and its reply before it is sent.
///
///     idle ──begin──▶ executing ──complete──▶ done ──end──▶ idle
///
///     0: unique number (62 bits) and phase │ 8: errno │ 12: size of the body │ 16: attempts │ 20: thread │ 24: body
struct OperationRecord: Sendable {
    enum Phase: UInt64 { case idle, executing, done }

    /// What a successor finds.
    struct Content: Sendable {
        /// How many processes have begun the request.
        var attempts: Int
        /// The reply: nil if the operation may or may not have happened.
        var reply: (error: Errno?, body: [UInt8])?
    }

    static let size = 512
    private static let bodyStart = 24
    private static let bodyCapacity = size - bodyStart

    // because only the thread that claimed the record writes to it, and other processes read it after this one's death.
    private nonisolated(unsafe) let base: UnsafeMutableRawPointer
    let index: Int

    init(at base: UnsafeMutableRawPointer, index: Int = 0) {
        self.base = base
        self.index = index
    }

    private var word: UnsafeMutablePointer<UInt64> { base.assumingMemoryBound(to: UInt64.self) }

    func setThread(_ thread: pid_t) { base.storeBytes(of: thread, toByteOffset: 20, as: pid_t.self) }

    /// The request that the thread is executing.
    var executing: (unique: UInt64, thread: pid_t)? {
        let word = clinux_load_acquire(word)
        guard word & 3 == Phase.executing.rawValue else { return nil }
        return (word >> 2, base.load(fromByteOffset: 20, as: pid_t.self))
    }

    /// Begins to serve a request.
    ///
    /// - Parameter attempts: How many processes began it before.
    func begin(_ unique: UInt64, attempts: Int) {
        base.storeBytes(of: UInt32(attempts + 1), toByteOffset: 16, as: UInt32.self)
        clinux_store_release(word, unique << 2 | Phase.executing.rawValue)
    }

    /// Stores the reply that is about to be sent.
    ///
    /// One that does not fit is one of an operation that may be repeated.
    func complete(_ error: Errno?, _ body: UnsafeRawBufferPointer) {
        guard body.count <= Self.bodyCapacity, word.pointee & 3 == Phase.executing.rawValue else { return }
        base.storeBytes(of: error?.rawValue ?? 0, toByteOffset: 8, as: Int32.self)
        base.storeBytes(of: UInt32(body.count), toByteOffset: 12, as: UInt32.self)
        if let start = body.baseAddress { (base + Self.bodyStart).copyMemory(from: start, byteCount: body.count) }
        clinux_store_release(word, word.pointee & ~3 | Phase.done.rawValue)
    }

    /// The request is answered, or waits without a thread.
    func end() {
        clinux_store_release(word, Phase.idle.rawValue)
    }

    /// Reads a record of a process that has ended.
    var content: (unique: UInt64, Content)? {
        let word = clinux_load_acquire(word)
        guard let phase = Phase(rawValue: word & 3), phase != .idle else { return nil }
        var content = Content(attempts: Int(base.load(fromByteOffset: 16, as: UInt32.self)))
        if phase == .done {
            let error = base.load(fromByteOffset: 8, as: Int32.self)
            let count = min(Int(base.load(fromByteOffset: 12, as: UInt32.self)), Self.bodyCapacity)
            content.reply = (
                error == 0 ? nil : Errno(rawValue: error),
                Array(UnsafeRawBufferPointer(start: base + Self.bodyStart, count: count))
            )
        }
        return (word >> 2, content)
    }
}
