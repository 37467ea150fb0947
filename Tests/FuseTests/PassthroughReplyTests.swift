import CLinux
import Fuse
import Glibc
import SystemPackage
import Testing

/// Negotiation of passthrough and of cached listings, and the flags of open replies.
@Suite struct PassthroughReplyTests {
    private static let passthrough = UInt32(clinux_fuse_passthrough_high)

    /// `flags2` and `max_stack_depth` of the reply, fields since protocol 7.40.
    private static func accepted(_ reply: fuse_init_out) -> (moreFlags: UInt32, depth: UInt32) {
        (reply.flags2, reply.unused.0)
    }

    @Test(.enabled(if: geteuid() == 0, "it takes CAP_SYS_ADMIN"), arguments: [1, 2] as [UInt32])
    func passthroughIsAcceptedWithItsDepth(depth: UInt32) throws {
        let fileSystem = RecordingFileSystem(features: Features(passthroughDepth: depth))
        try withSession(serving: fileSystem, isGreeted: false) { kernel in
            let reply = try kernel.greet(offering: 0x7fff_ffff, Self.passthrough)
            #expect(reply.flags & UInt32(FUSE_INIT_EXT) != 0)
            #expect(Self.accepted(reply) == (Self.passthrough, depth))
            #expect(fileSystem.connection.withLock { $0?.supportsPassthrough } == true)
        }
    }

    @Test(
        arguments: [
            // Not wanted; not offered; offered in flags2 without FUSE_INIT_EXT.
            (Features(), 0x7fff_ffff, passthrough), (Features(passthroughDepth: 1), 0x7fff_ffff, 0),
            (Features(passthroughDepth: 1), 0x3fff_ffff, passthrough),
        ] as [(Features, UInt32, UInt32)])
    func passthroughIsNotAccepted(features: Features, flags: UInt32, moreFlags: UInt32) throws {
        let fileSystem = RecordingFileSystem(features: features)
        try withSession(serving: fileSystem, isGreeted: false) { kernel in
            let reply = try kernel.greet(offering: flags, moreFlags)
            #expect(Self.accepted(reply) == (0, 0))
            #expect(fileSystem.connection.withLock { $0?.supportsPassthrough } == false)
        }
    }

    /// A kernel that offers passthrough and then refuses a file is not asked again.
    @Test(.enabled(if: geteuid() == 0, "it takes CAP_SYS_ADMIN")) func refusalIsPermanent() throws {
        let fileSystem = RecordingFileSystem(features: Features(passthroughDepth: 1))
        try withSession(serving: fileSystem, isGreeted: false) { kernel in
            try kernel.greet(offering: 0x7fff_ffff, Self.passthrough)
            let connection = try #require(fileSystem.connection.withLock { $0 })
            // A socket does not have this ioctl.
            #expect(Self.refusal(by: connection) == .inappropriateIOCTLForDevice)
            #expect(!connection.supportsPassthrough)
            #expect(Self.refusal(by: connection) == .notPermitted)
        }
    }

    /// The error of registering a backing file; nil on success.
    private static func refusal(by connection: Connection) -> Errno? {
        do throws(Errno) {
            _ = try connection.registerBackingFile(0)
            return nil
        } catch {
            return error
        }
    }

    @Test(arguments: [FUSE_OPEN, FUSE_CREATE], [false, true])
    func backingIDIsInTheReply(opcode: fuse_opcode, directIO: Bool) throws {
        let fileSystem = RecordingFileSystem(registeringWithDirectIO: directIO)
        try withSession(serving: fileSystem) { kernel in
            let isOpen = opcode == FUSE_OPEN
            let node = isOpen ? RecordingFileSystem.passthroughFile.rawValue : 7
            let body = isOpen ? bytes(of: fuse_open_in()) : bytes(of: fuse_create_in()) + cString("passthrough")
            let reply = try kernel.ask(opcode, node: node, body)
            let opened = reply.body.suffix(MemoryLayout<fuse_open_out>.size).withUnsafeBytes {
                $0.loadUnaligned(as: fuse_open_out.self)
            }
            let direct = directIO ? UInt32(FOPEN_DIRECT_IO) : 0
            #expect(opened.open_flags == UInt32(clinux_fopen_passthrough) | UInt32(FOPEN_NOFLUSH) | direct)
            // `backing_id`.
            #expect(opened.padding == 77)
            #expect(fileSystem.calls.last == "I/O mode of \(opened.fh)")
        }
    }

    @Test func attributesAreInvalidatedByANotification() throws {
        let fileSystem = RecordingFileSystem()
        try withSession(serving: fileSystem) { kernel in
            let connection = try #require(fileSystem.connection.withLock { $0 })
            connection.invalidateAttributes(of: InodeNumber(rawValue: 5))
            let notice = try kernel.receive()
            #expect(notice.unique == 0)
            #expect(-notice.errno == CInt(FUSE_NOTIFY_INVAL_INODE.rawValue))
            #expect(notice.body == bytes(of: fuse_notify_inval_inode_out(ino: 5, off: -1, len: 0)))
        }
    }

    @Test func absenceMayBeCached() throws {
        try withSession(serving: RecordingFileSystem()) { kernel in
            let reply = try kernel.ask(FUSE_LOOKUP, node: 7, cString("absent"))
            let entry = reply.body.withUnsafeBytes { $0.loadUnaligned(as: fuse_entry_out.self) }
            #expect(reply.errno == 0)
            #expect((entry.nodeid, entry.entry_valid, entry.entry_valid_nsec) == (0, 4, 500_000_000))
        }
    }

    /// A cacheable listing ends with an empty reply, any other with one too short for an entry.
    @Test func uncacheableListingHasAnotherEnd() throws {
        try withSession(serving: RecordingFileSystem()) { kernel in
            for opcode in [FUSE_READDIR, FUSE_READDIRPLUS] {
                let question = wire(fuse_read_in()) { ($0.offset, $0.size) = (9000, 4096) }
                let kept = try kernel.ask(opcode, node: RecordingFileSystem.kept.rawValue, question)
                #expect((kept.errno, kept.body) == (0, []))
                let other = try kernel.ask(opcode, node: 7, question)
                #expect(other.errno == 0 && (1..<MemoryLayout<fuse_dirent>.size).contains(other.body.count))
            }
        }
    }

    /// ENOSYS to OPENDIR turns it off for the connection, if kernel and file system support that.
    @Test(
        .enabled(if: geteuid() == 0, "it takes CAP_DAC_READ_SEARCH"),
        arguments: [
            (Features(listsUnopened: true), 0x7fff_ffff, passthrough, ENOSYS),
            (Features(), 0x7fff_ffff, passthrough, 0),
            (Features(listsUnopened: true), 0x7fff_ffff & ~UInt32(FUSE_NO_OPENDIR_SUPPORT), passthrough, 0),
            // An older kernel.
            (Features(listsUnopened: true), 0x7fff_ffff, 0, 0),
        ] as [(Features, UInt32, UInt32, CInt)])
    func directoriesAreListedUnopenedWhereAllAgree(
        _ features: Features, _ flags: UInt32, _ moreFlags: UInt32, _ errno: CInt
    ) throws {
        let fileSystem = RecordingFileSystem(features: features)
        try withSession(serving: fileSystem, isGreeted: false) { kernel in
            try kernel.greet(offering: flags, moreFlags)
            #expect(try kernel.ask(FUSE_OPENDIR, node: 7, bytes(of: fuse_open_in())).errno == errno)
        }
        #expect(fileSystem.calls.contains { $0.hasPrefix("opendir") } == (errno == 0))
    }

    @Test(arguments: [true, false]) func listingIsCachedIfTheFileSystemAllowsIt(isKept: Bool) throws {
        try withSession(serving: RecordingFileSystem()) { kernel in
            let node = isKept ? RecordingFileSystem.kept.rawValue : 7
            let reply = try kernel.ask(FUSE_OPENDIR, node: node, bytes(of: fuse_open_in()))
            let opened = reply.body.withUnsafeBytes { $0.loadUnaligned(as: fuse_open_out.self) }
            #expect(opened.open_flags == (isKept ? UInt32(FOPEN_CACHE_DIR | FOPEN_KEEP_CACHE) : 0))
        }
    }
}
