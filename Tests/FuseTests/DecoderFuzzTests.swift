import CLinux
import Fuse
import Glibc
import SystemPackage
import TestSupport
import Testing

/// Thousands of damaged requests, the same ones for a seed.
///
/// None may end the session, be answered twice, or be read past its end. `PULSEFS_FUZZ_SECONDS` sets the time for which
/// the tests continue with other seeds.
@Suite struct DecoderFuzzTests {
    /// Valid requests of every kind, and those that once failed.
    private static let corpus: [[UInt8]] =
        Exchange.all.map { exchange in
            request(exchange.opcode.rawValue, node: exchange.node, exchange.body)
        } + [
            // FUSE_STATX, FUSE_INTERRUPT, FUSE_FORGET, FUSE_BATCH_FORGET, and an unknown one.
            request(52, node: 7, Array(repeating: 0, count: 24)), request(36, node: 0, Array(repeating: 1, count: 8)),
            request(2, node: 7, Array(repeating: 1, count: 8)),
            request(42, node: 0, Array(repeating: 1, count: 8) + Array(repeating: 2, count: 16)),
            request(4094, node: 7, []),
        ]

    private static func request(_ opcode: UInt32, node: UInt64, _ body: [UInt8]) -> [UInt8] {
        wire(fuse_in_header()) {
            ($0.len, $0.opcode, $0.nodeid) = (UInt32(40 + body.count), opcode, node)
            ($0.uid, $0.gid, $0.pid) = (1000, 100, 4711)
        } + body
    }

    /// Invalid requests that must be rejected, each once found by this test.
    @Test(arguments: [
        (
            "a length that is a lie", FUSE_SETXATTR, wire(fuse_setxattr_in()) { $0.size = 1 } + cString("user.x") + [1],
            3
        ),
        ("a name without an end", FUSE_LOOKUP, [0x61, 0x62], 42),
        ("no name at all", FUSE_UNLINK, [], 40),
        ("one name of two", FUSE_RENAME2, bytes(of: fuse_rename2_in()) + cString("ab"), 59),
        ("less data than announced", FUSE_WRITE, wire(fuse_write_in()) { $0.size = 1 << 20 } + [1, 2, 3], 83),
        ("less argument than announced", FUSE_IOCTL, wire(fuse_ioctl_in()) { $0.in_size = .max }, 72),
        ("half a structure", FUSE_READ, Array(repeating: 0, count: 20), 60),
    ])
    func incompleteRequestIsRefused(_ what: String, _ opcode: fuse_opcode, _ body: [UInt8], _ length: UInt32) throws {
        let fileSystem = RecordingFileSystem()
        try withSession(serving: fileSystem) { kernel in
            let header = wire(fuse_in_header()) {
                ($0.len, $0.opcode, $0.unique, $0.nodeid) = (length, opcode.rawValue, 42, 7)
            }
            try kernel.send(raw: header + body)
            #expect(try kernel.receive() == KernelSide.Reply(unique: 42, errno: EIO, body: []))
            try kernel.expectSilence()
        }
        #expect(fileSystem.calls == [])
    }

    @Test(arguments: UInt64(1)...4)
    func damagedRequestsAreAnsweredOrIgnored(seed: UInt64) throws {
        try run(seed: seed)
    }

    @Test func damagedRequestsForAGivenTime() throws {
        guard let seconds = getenv("PULSEFS_FUZZ_SECONDS").flatMap({ Double(String(cString: $0)) }) else { return }
        let limit = ContinuousClock.now + .seconds(seconds)
        var seed = UInt64(getpid()) << 20
        while ContinuousClock.now < limit {
            print("seed \(seed)")
            try run(seed: seed)
            seed += 1
        }
    }

    private func run(seed: UInt64) throws {
        var random = SplitMix64(state: seed)
        try withSession(serving: RecordingFileSystem()) { kernel in
            var sent: [UInt64: [UInt8]] = [:]
            var answered: Set<UInt64> = []
            // Requests that must be answered: a caller waits for each.
            var owed: Set<UInt64> = []
            for round in 0..<200 {
                for number in 0..<10 {
                    let unique = UInt64(round * 10 + number) * 2 + 1000
                    let request = mutant(unique: unique, using: &random)
                    sent[unique] = request
                    if Self.needsReply(request) { owed.insert(unique) }
                    try kernel.send(raw: request)
                }
                // After this reply, only deferred requests and interrupts are left.
                let question: UInt64 = 1
                try kernel.send(FUSE_GETATTR, bytes(of: fuse_getattr_in()), unique: question)
                var isAnswered = false
                while !isAnswered || !owed.isSubset(of: answered) {
                    let reply = try kernel.receive()
                    if reply.unique == question {
                        isAnswered = true
                        continue
                    }
                    #expect(answered.insert(reply.unique).inserted, "answered twice: \(sent[reply.unique] ?? [])")
                }
                #expect(answered.isSubset(of: sent.keys))
            }
        }
    }

    /// Whether the kernel waits for a reply: not for FORGET, INTERRUPT, NOTIFY_REPLY and BATCH_FORGET.
    ///
    /// A request whose header has a wrong length, which the kernel never sends, may be ignored.
    private static func needsReply(_ request: [UInt8]) -> Bool {
        let header = request.withUnsafeBytes { $0.loadUnaligned(as: fuse_in_header.self) }
        return Int(header.len) == request.count && ![2, 36, 41, 42].contains(header.opcode)
    }

    private func mutant(unique: UInt64, using random: inout SplitMix64) -> [UInt8] {
        var bytes = Self.corpus.randomElement(using: &random) ?? []
        for _ in 0..<Int.random(in: 0...3, using: &random) {
            let at = Int.random(in: 40...max(40, bytes.count), using: &random)
            switch Int.random(in: 0..<6, using: &random) {
            case 0 where at < bytes.count: bytes[at] = UInt8.random(in: 0...255, using: &random)
            case 1 where at < bytes.count: bytes[at] = [0, 0xFF, 0x7F, 0x80, 1][Int.random(in: 0..<5, using: &random)]
            case 2: bytes.removeLast(bytes.count - min(at, bytes.count))
            case 3: bytes += (0..<Int.random(in: 1...64, using: &random)).map { _ in 0x61 }
            case 4: bytes = Array(bytes.prefix(40)) + bytes.dropFirst(40).filter { $0 != 0 }
            default: bytes += (Self.corpus.randomElement(using: &random) ?? []).dropFirst(40)
            }
            while bytes.count < 40 { bytes.append(0) }
        }
        // The header is the kernel's, sometimes with a wrong length, and with a unique number.
        let opcode = bytes[4..<8]
        withUnsafeBytes(of: unique) { bytes.replaceSubrange(8..<16, with: $0) }
        let isHonest = Int.random(in: 0..<20, using: &random) > 0
        let length = UInt32(isHonest ? bytes.count : Int.random(in: 0...200, using: &random))
        withUnsafeBytes(of: length) { bytes.replaceSubrange(0..<4, with: $0) }
        // INIT and DESTROY begin and end a session.
        if opcode.elementsEqual([26, 0, 0, 0]) || opcode.elementsEqual([38, 0, 0, 0]) { bytes[4] = 3 }
        return bytes
    }
}
