import CLinux
import Glibc
import SystemPackage

/// Brings requests from the kernel and carries the replies back.
///
/// There is one implementation, `DevFuseTransport`. The protocol leaves room for io_uring: a transport owns its threads,
/// a request's header, input structure and payload may lie in separate buffers (`Message`), and a reply is a header plus
/// one body. INIT, FORGET, INTERRUPT and notifications use `/dev/fuse` with either, so `Connection` does those.
///
/// Any thread may reply.
protocol Transport: AnyObject, Sendable {
    /// Whether a reply may be spliced from a pipe.
    var supportsSplice: Bool { get }

    /// Replies to a request with an errno, or with a body, which may be empty.
    ///
    /// - Returns: nil, or why the kernel did not take the reply: ENOENT if the caller was killed.
    func reply(to unique: UInt64, error: Errno?, _ body: UnsafeRawBufferPointer) -> Errno?

    /// Sends a whole reply, header first, of `size` bytes that are in a pipe.
    ///
    /// - Returns: As above. What is left in the pipe after a failure is unknown.
    func reply(_ size: Int, fromPipe pipe: CInt) -> Errno?

    /// Takes back a request that no thread has begun to serve.
    ///
    /// - Returns: False if there is no such request; it may be running.
    func cancel(_ unique: UInt64) -> Bool

    /// Serves requests until the connection ends, on the calling thread and others, at most `threads`.
    func serve(_ dispatcher: Dispatcher, threads: Int) throws(Errno)
}

extension Transport {
    /// Replies without a body.
    func reply(to unique: UInt64, error: Errno? = nil) -> Errno? {
        reply(to: unique, error: error, UnsafeRawBufferPointer(start: nil, count: 0))
    }
}

/// What each serving thread has for itself: room for replies, and pipes for spliced ones.
struct WorkerBuffers: ~Copyable {
    var splice = SpliceReply()
    /// False while the thread is the last one that is free: it must not wait for a disk.
    var mayBlock = true
    private var bytes = UnsafeMutableRawBufferPointer(start: nil, count: 0)

    /// Lends `count` bytes of memory, as the last user left them.
    ///
    /// The block grows to the largest reply so far, 1 MiB at most, so that reading costs no allocation.
    mutating func withRoom<Result>(_ count: Int, _ body: (UnsafeMutableRawBufferPointer) -> Result) -> Result {
        if count > bytes.count {
            bytes.deallocate()
            bytes = .allocate(byteCount: count, alignment: 16)
        }
        return body(UnsafeMutableRawBufferPointer(rebasing: bytes[..<count]))
    }

    deinit {
        bytes.deallocate()
    }
}
