import TestSupport
import Testing

@testable import LivenessRedis

@Suite(.timeLimit(.minutes(5))) struct RedisReplyReaderTests {
    private let reader = RedisReplyReader()

    private func feed(_ text: String) throws(RedisError) {
        try reader.feed(Array(text.utf8).span.bytes)
    }

    private func all() throws(RedisError) -> [RedisReply] {
        var replies: [RedisReply] = []
        while let reply = try reader.next() { replies.append(reply) }
        return replies
    }

    private static let examples: [(String, RedisReply)] = [
        ("+OK\r\n", .status("OK")),
        ("+\r\n", .status("")),
        ("-ERR no\r\n", .error("ERR no")),
        (":-9223372036854775808\r\n", .integer(.min)),
        ("$3\r\na\0\n\r\n", .string([0x61, 0, 0x0A])),
        ("$0\r\n\r\n", .string([])),
        ("$-1\r\n", .null),
        ("*-1\r\n", .null),
        ("*0\r\n", .array([])),
        (
            "*3\r\n*1\r\n:1\r\n$-1\r\n-ERR\r\n",
            .array([.array([.integer(1)]), .null, .error("ERR")])
        ),
        (
            "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:7\r\n",
            .array([.array([.array([.array([.array([.array([.array([.integer(7)])])])])])])])
        ),
    ]

    @Test(arguments: examples)
    func replyIsReadWholeAndByteForByte(_ text: String, _ reply: RedisReply) throws {
        try feed(text + text)
        #expect(try all() == [reply, reply])
        for byte in text.utf8.dropLast() {
            try reader.feed([byte].span.bytes)
            #expect(try all() == [])
        }
        #expect(reader.unread == text.utf8.count - 1)
        try feed("\n")
        #expect(try all() == [reply])
        #expect(reader.unread == 0)
    }

    @Test(arguments: [
        "HTTP/1.1 400 Bad Request\r\n", "?\r\n", "\r\n", ":x\r\n", "$x\r\n", "$-2\r\n", "*x\r\n", "*-2\r\n",
        "*1048577\r\n", "*2147483647\r\n", "*4294967297000\r\n", "*99999999999999999999\r\n", "$16777217\r\n",
        "$9223372036854775807\r\n", "$9999999999999999999999\r\n",
        "*2\r\n*1048575\r\n", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n", "%1\r\n:1\r\n:1\r\n",
    ])
    func replyBeyondTheLimitsIsRefusedAtOnce(_ text: String) {
        #expect {
            try feed(text)
            _ = try all()
        } throws: {
            guard case .protocolViolation? = $0 as? RedisError else { return false }
            return true
        }
    }

    @Test func lineWithoutEndIsRefused() {
        #expect(throws: RedisError.protocolViolation("a line of more than 65536 bytes")) {
            for _ in 0..<3 {
                try feed("+" + String(repeating: "a", count: 30_000))
                #expect(try all() == [])
            }
        }
    }

    @Test func replyWithoutEndIsRefused() {
        #expect(throws: RedisError.protocolViolation("a reply of more than 16777216 bytes")) {
            try feed("*1000000\r\n")
            for _ in 0..<1000 {
                try feed("$20000\r\n" + String(repeating: "a", count: 20_000) + "\r\n")
                #expect(try all() == [])
            }
        }
    }

    @Test func longestStringIsRead() throws {
        let length = RedisReplyReader.maximumUnread - 100
        try feed("$\(length)\r\n" + String(repeating: "a", count: length) + "\r\n:1\r\n")
        let replies = try all()
        #expect(replies.count == 2)
        guard case .string(let bytes)? = replies.first else { return #expect(Bool(false)) }
        #expect(bytes.count == length)
    }

    /// The replies of some bytes, and whether they are refused in the end.
    private func outcome(of bytes: [UInt8], inPartsOf size: Int) -> (replies: [RedisReply], isRefused: Bool) {
        let reader = RedisReplyReader()
        var replies: [RedisReply] = []
        do throws(RedisError) {
            for start in stride(from: 0, to: bytes.count, by: size) {
                let part = Array(bytes[start..<min(start + size, bytes.count)])
                try reader.feed(part.span.bytes)
                while let reply = try reader.next() { replies.append(reply) }
            }
        } catch {
            return (replies, true)
        }
        return (replies, false)
    }

    /// What precedes the damage is read, and how the bytes are split makes no difference.
    @Test(arguments: UInt64(1)...8)
    func damagedRepliesAreReadTheSameHoweverTheyAreSplit(seed: UInt64) throws {
        var random = SplitMix64(state: seed)
        var refused = 0
        for _ in 0..<2_000 {
            let examples = (0..<3).compactMap { _ in Self.examples.randomElement(using: &random) }
            let intact = examples.flatMap { Array($0.0.utf8) }
            var bytes = intact
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                let at = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<3, using: &random) {
                case 0: bytes[at] = UInt8.random(in: 0...255, using: &random)
                case 1: bytes.insert(UInt8(ascii: "9"), at: at)
                default: bytes.remove(at: at)
                }
            }
            let whole = outcome(of: bytes, inPartsOf: bytes.count)
            let bytewise = outcome(of: bytes, inPartsOf: 1)
            #expect(whole == bytewise, "\(bytes)")
            let undamaged = zip(bytes, intact).prefix { $0 == $1 }.count
            var (end, expected) = (0, [RedisReply]())
            for (text, reply) in examples {
                end += text.utf8.count
                if end <= undamaged { expected.append(reply) }
            }
            #expect(whole.replies.starts(with: expected), "\(bytes)")
            if whole.isRefused { refused += 1 }
        }
        #expect((1..<2_000).contains(refused))
    }

    @Test(arguments: examples)
    func replyIsReadHoweverItIsCut(_ text: String, _ reply: RedisReply) throws {
        let bytes = Array(text.utf8)
        for cut in 0...bytes.count {
            try reader.feed(Array(bytes[..<cut]).span.bytes)
            #expect(try all() == (cut == bytes.count ? [reply] : []))
            try reader.feed(Array(bytes[cut...]).span.bytes)
            #expect(try all() == (cut == bytes.count ? [] : [reply]))
        }
    }
}
