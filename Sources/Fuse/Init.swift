import CFuse
import CLinux
import Glibc
import Linux
import SystemPackage

/// FUSE_INIT: what the kernel offers, and what is accepted.
///
/// libfuse negotiates, over a transport in memory. Its reply is then extended by what libfuse 3.14 does not know:
///
/// - FUSE_HANDLE_KILLPRIV_V2: the kernel no longer asks for `security.capability` before each write. The backing file
///   loses its set-id bits and capabilities by our write as by the caller's.
/// - FUSE_SETXATTR_EXT: SETXATTR says when an access control list clears the set-group-id bit.
/// - FUSE_PARALLEL_DIROPS: lookups and listings of one directory run in parallel. libfuse 3.14 forgets to accept it.
/// - FUSE_PASSTHROUGH and FUSE_ALLOW_IDMAP, if the file system wants them. They are in the second word of flags, which
///   FUSE_INIT_EXT announces.
///
/// A pure function of the request's bytes: a process that takes over a connection repeats it with the saved request.
///
/// Structures: `fuse_init_in` and `fuse_init_out` of linux/fuse.h, protocol 7.40.
enum Init {
    /// What the two sides have agreed on.
    struct Agreement: Sendable {
        /// Whether SETXATTR has its longer input structure.
        var setxattrIsLong = false
        /// Whether directories are listed without OPENDIR: accepted by replying ENOSYS to the first one.
        var listsUnopened = false
        var supportsPassthrough = false
        /// `struct fuse_init_out`, or empty if `failure` is set.
        var reply: [UInt8] = []
        /// Why libfuse refused: EPROTO for another major version.
        var failure: Errno?
    }

    /// Background requests (readahead, asynchronous writes, RELEASE) in flight at a time; the kernel's default is 12.
    ///
    /// One slow file must not keep others from being read ahead, nor deferred releases from being sent.
    static let maxBackground: UInt32 = 128

    /// Whether the kernel can be asked to send unanswered requests again (FUSE_HAS_RESEND).
    ///
    /// - Parameter request: As for `negotiate`.
    static func offersResend(_ request: [UInt8]) -> Bool {
        offeredFlags(request).high & UInt32(clinux_fuse_has_resend_high) != 0
    }

    /// `flags` and `flags2` of a request.
    private static func offeredFlags(_ request: [UInt8]) -> (low: UInt32, high: UInt32) {
        // fuse_init_in: major, minor, max_readahead, flags, and flags2 after FUSE_INIT_EXT, of 4 bytes each.
        let start = MemoryLayout<fuse_in_header>.size
        return request.withUnsafeBytes { bytes in
            let flags = bytes.loadUnaligned(fromByteOffset: start + 12, as: UInt32.self)
            let isExtended = flags & UInt32(FUSE_INIT_EXT) != 0 && bytes.count >= start + 20
            return (flags, isExtended ? bytes.loadUnaligned(fromByteOffset: start + 16, as: UInt32.self) : 0)
        }
    }

    /// Negotiates.
    ///
    /// - Parameter request: The whole message, from `struct fuse_in_header` on.
    static func negotiate(_ request: [UInt8], _ features: Features) throws(Errno) -> Agreement {
        let (body, failure) = try libfuseReply(to: request, features)
        guard failure == nil, body.count >= MemoryLayout<fuse_init_out>.size else {
            return Agreement(failure: failure ?? .ioError)
        }
        let (offered, offeredHigh) = offeredFlags(request)
        var reply = body.withUnsafeBytes { $0.loadUnaligned(as: fuse_init_out.self) }
        reply.flags |= offered & UInt32(FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT | FUSE_PARALLEL_DIROPS)
        var agreement = Agreement()
        agreement.setxattrIsLong = offered & UInt32(FUSE_SETXATTR_EXT) != 0
        // FUSE_PASSTHROUGH tells a kernel of Linux 6.9 or later. Up to 6.5, offsets of a tmpfs belong to one opening.
        agreement.listsUnopened =
            features.listsUnopened && Credentials.mayListEverything && offered & UInt32(FUSE_NO_OPENDIR_SUPPORT) != 0
            && offeredHigh & UInt32(clinux_fuse_passthrough_high) != 0
        if let depth = features.passthroughDepth, Credentials.mayAdminister,
            offeredHigh & UInt32(clinux_fuse_passthrough_high) != 0
        {
            reply.flags |= UInt32(FUSE_INIT_EXT)
            reply.flags2 |= UInt32(clinux_fuse_passthrough_high)
            // `max_stack_depth`, since protocol 7.40.
            reply.unused.0 = depth
            agreement.supportsPassthrough = true
        }
        if features.allowsIDMapping, offeredHigh & UInt32(clinux_fuse_allow_idmap_high) != 0 {
            reply.flags |= UInt32(FUSE_INIT_EXT)
            reply.flags2 |= UInt32(clinux_fuse_allow_idmap_high)
        }
        agreement.reply = withUnsafeBytes(of: reply) { Array($0) }
        return agreement
    }

    /// What libfuse sees and says during a negotiation.
    private final class Exchange {
        let features: Features
        var reply: [UInt8] = []

        init(_ features: Features) { self.features = features }

        static func of(_ userData: UnsafeMutableRawPointer?) -> Exchange {
            // because `libfuseReply` gave libfuse this pointer, and keeps the object until libfuse's session is gone.
            Unmanaged<Exchange>.fromOpaque(userData!).takeUnretainedValue()
        }
    }

    /// The body of libfuse's reply, or its errno.
    private static func libfuseReply(to request: [UInt8], _ features: Features) throws(Errno) -> ([UInt8], Errno?) {
        let exchange = Exchange(features)
        defer { withExtendedLifetime(exchange) {} }
        var table = operations()
        var arguments = [strdup("pulsefs")]
        defer { free(arguments[0]) }
        // because the session below is destroyed before this function returns.
        let userData = Unmanaged.passUnretained(exchange).toOpaque()
        let created = arguments.withUnsafeMutableBufferPointer { arguments in
            var parsed = fuse_args(argc: 1, argv: arguments.baseAddress, allocated: 0)
            // libfuse replaces the arguments by a copy of its own.
            defer { fuse_opt_free_args(&parsed) }
            return fuse_session_new(&parsed, &table, MemoryLayout.size(ofValue: table), userData)
        }
        guard let session = created else { throw .noMemory }
        defer { fuse_session_destroy(session) }
        var transport = fuse_custom_io(
            writev: { _, parts, count, userData in
                let parts = UnsafeBufferPointer(start: parts, count: Int(count))
                let bytes = parts.flatMap { UnsafeRawBufferPointer(start: $0.iov_base, count: $0.iov_len) }
                Exchange.of(userData).reply = bytes
                return bytes.count
            },
            read: { _, _, _, _ in -1 }, splice_receive: nil, splice_send: nil)
        // The session wants a descriptor to close at its end, and uses it for nothing else.
        let placeholder = try retryingInterrupts { eventfd(0, CInt(EFD_CLOEXEC)) }
        let outcome = fuse_session_custom_io(session, &transport, placeholder)
        guard outcome == 0 else {
            _ = close(placeholder)
            throw Errno(rawValue: abs(outcome))
        }
        var bytes = request
        bytes.withUnsafeMutableBytes { bytes in
            var buffer = fuse_buf()
            buffer.mem = bytes.baseAddress
            buffer.size = bytes.count
            fuse_session_process_buf(session, &buffer)
        }
        guard exchange.reply.count >= MemoryLayout<fuse_out_header>.size else { throw .ioError }
        let header = exchange.reply.withUnsafeBytes { $0.loadUnaligned(as: fuse_out_header.self) }
        return (
            Array(exchange.reply.dropFirst(MemoryLayout<fuse_out_header>.size)),
            header.error == 0 ? nil : Errno(rawValue: -header.error)
        )
    }

    /// The operations whose presence decides what libfuse accepts, and its `init`.
    ///
    /// None is ever called but that.
    ///
    /// In a function of an ordinary file: closures of a main file belong to the main actor and trap on other threads.
    private static func operations() -> fuse_lowlevel_ops {
        var table = fuse_lowlevel_ops()
        table.readdir = { _, _, _, _, _ in }
        table.readdirplus = { _, _, _, _, _ in }
        table.`init` = { userData, connection in
            guard let connection else { return }
            let capable = connection.pointee.capable
            // A server that runs as root would not clear set-id bits by writing: the kernel does, by SETATTR.
            connection.pointee.want &= ~UInt32(FUSE_CAP_HANDLE_KILLPRIV)
            // The kernel checks access control lists. The umask is left to the backing file system, which knows whether a
            // directory has a default list.
            connection.pointee.want |= capable & UInt32(FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK)
            if Exchange.of(userData).features.isExclusive {
                connection.pointee.want &= ~UInt32(FUSE_CAP_AUTO_INVAL_DATA)
                connection.pointee.want |= capable & UInt32(FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_CACHE_SYMLINKS)
            }
            connection.pointee.max_background = Init.maxBackground
            connection.pointee.congestion_threshold = Init.maxBackground * 3 / 4
        }
        return table
    }
}
