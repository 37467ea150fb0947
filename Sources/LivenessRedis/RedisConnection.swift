import CLinux
import Glibc
import Linux
import SystemPackage

/// A connection to one Redis server.
///
/// Used by one thread at a time. Nothing here waits without a limit, and no signal is raised by a server that has gone.
/// Any error leaves the connection unusable: the same error is thrown from then on.
package final class RedisConnection {
    /// Of all replies to one pipeline together, in bytes.
    static let maximumPipeline = 64 << 20

    /// The server's URL, without secrets.
    package let place: String

    /// Readable when there is something to `receive`, also the end: for a poll(2) together with other descriptors.
    ///
    /// Whoever polls it has called `receive` until that returned nil: what has already been read is no longer there.
    package var descriptor: CInt { socket.rawValue }

    private let socket: OwnedDescriptor
    private let tls: TLSSession?
    private let replyTimeout: Duration
    private let reader = RedisReplyReader()
    /// As they go to the socket, encrypted if need be; those before `sent` are gone.
    private var outgoing: [UInt8] = []
    private var sent = 0
    private var block = [UInt8](repeating: 0, count: 64 << 10)
    private var isShakingHands: Bool
    private var hasEnded = false
    private var failure: RedisError?

    /// Takes over a connected socket that does not block.
    init(_ socket: consuming OwnedDescriptor, tls: TLSSession?, place: String, replyTimeout: Duration) {
        self.socket = socket
        self.tls = tls
        self.place = place
        self.replyTimeout = replyTimeout
        isShakingHands = tls != nil
    }

    // MARK: Requests

    /// Sends commands and waits for a reply to each; error replies are replies.
    ///
    /// Receives while it sends, so that a server that waits for us to read before it reads on keeps nobody waiting.
    package func pipeline(_ commands: [RedisCommand]) throws(RedisError) -> [RedisReply] {
        try orFail { () throws(RedisError) in
            guard reader.unread == 0 else { throw .protocolViolation("a reply that nobody asked for") }
            let limit = ContinuousClock.now + replyTimeout
            var replies: [RedisReply] = []
            replies.reserveCapacity(commands.count)
            var (queued, received) = (0, 0)
            while true {
                while replies.count < queued, let reply = try reader.next() { replies.append(reply) }
                if replies.count == queued, sent == outgoing.count {
                    if queued == commands.count { return replies }
                    queued += try queue(portionOf: commands[queued...])
                }
                let before = reader.unread
                guard try turn(until: limit) == .moved else { throw .timedOut("reply from \(place)") }
                received += reader.unread - before
                guard received <= Self.maximumPipeline else {
                    throw .protocolViolation("more than \(Self.maximumPipeline) bytes of replies")
                }
            }
        }
    }

    // MARK: Subscriptions

    /// Sends commands whose replies, if any, are for `receive`.
    package func send(_ commands: [RedisCommand]) throws(RedisError) {
        try orFail { () throws(RedisError) in
            let limit = ContinuousClock.now + replyTimeout
            var queued = 0
            while queued < commands.count || sent < outgoing.count {
                queued += try queue(portionOf: commands[queued...])
                guard try turn(until: limit) == .moved else { throw .timedOut("room for a command to \(place)") }
            }
        }
    }

    /// Waits for the next reply or message.
    ///
    /// What has already been read comes before a wakeup, and a wakeup before what is still to be read. With a limit in
    /// the past it only looks.
    ///
    /// - Returns: Nil at the limit or when the wakeup is raised, which it stays: its `wait` tells which it was.
    package func receive(
        until limit: ContinuousClock.Instant, orRaised event: EventFD? = nil
    ) throws(RedisError) -> RedisReply? {
        try orFail { () throws(RedisError) in
            while true {
                if let reply = try reader.next() { return reply }
                guard try turn(until: limit, orRaised: event) == .moved else { return nil }
            }
        }
    }

    // MARK: Bytes

    /// Agrees upon keys, and checks the server's certificate; does nothing without TLS.
    func shakeHands(until limit: ContinuousClock.Instant) throws(RedisError) {
        guard let tls else { return }
        try orFail { () throws(RedisError) in
            while try !tls.shakeHands() {
                tls.moveUnsent(to: &outgoing)
                guard try turn(until: limit) == .moved else { throw .timedOut("TLS handshake with \(place)") }
            }
            tls.moveUnsent(to: &outgoing)
            isShakingHands = false
        }
    }

    private enum Turn {
        case moved, limit, raised
    }

    /// Makes commands ready to be sent: all, or with TLS as many as fit into one record, but at least one.
    ///
    /// Redis 7.0 and Valkey up to 8.0 end a TLS connection ("SSL routines::bad length" in their log) when new replies
    /// join those that wait for room in the socket, see valkey-io/valkey#1135. What comes in one record is carried out
    /// before anything is sent, so it is safe to wait for the replies to each.
    ///
    /// - Returns: How many.
    private func queue(portionOf commands: ArraySlice<RedisCommand>) throws(RedisError) -> Int {
        guard let tls else {
            for command in commands { command.append(to: &outgoing) }
            return commands.count
        }
        var (bytes, count) = ([UInt8](), 0)
        for command in commands {
            let start = bytes.count
            command.append(to: &bytes)
            if count > 0, bytes.count > TLSSession.maximumRecord {
                bytes.removeSubrange(start...)
                break
            }
            count += 1
        }
        try tls.encrypt(bytes.span.bytes)
        tls.moveUnsent(to: &outgoing)
        return count
    }

    /// Sends and receives what can be, waiting first until anything can.
    private func turn(
        until limit: ContinuousClock.Instant, orRaised event: EventFD? = nil
    ) throws(RedisError) -> Turn {
        guard !hasEnded else { throw .closed }
        let isSending = sent < outgoing.count
        var questions = [
            pollfd(fd: socket.rawValue, events: Int16(isSending ? POLLIN | POLLOUT : POLLIN), revents: 0)
        ]
        if let event { questions.append(pollfd(fd: event.descriptor, events: Int16(POLLIN), revents: 0)) }
        guard poll(&questions, until: limit) else { return .limit }
        if questions.count > 1, questions[1].revents != 0 { return .raised }
        let events = CInt(questions[0].revents)
        if events & POLLOUT != 0 { try sendSome() }
        if events & ~POLLOUT != 0 { try receiveSome() }
        return .moved
    }

    private func sendSome() throws(RedisError) {
        let count = outgoing.withUnsafeBytes { bytes in
            let rest = UnsafeRawBufferPointer(rebasing: bytes.dropFirst(sent))
            return Result { () throws(Errno) in
                try retryingInterrupts {
                    Glibc.send(socket.rawValue, rest.baseAddress, rest.count, clinux_msg_nosignal)
                }
            }
        }
        switch count {
        case .success(let count): sent += count
        case .failure(.wouldBlock): return
        // What the server said before it hung up may tell why, and is still to be read.
        case .failure: sent = outgoing.count
        }
        if sent == outgoing.count {
            outgoing.removeAll(keepingCapacity: outgoing.count <= 64 << 10)
            sent = 0
        }
    }

    private func receiveSome() throws(RedisError) {
        let count: Int
        do throws(Errno) {
            count = try retryingInterrupts { recv(socket.rawValue, &block, block.count, 0) }
        } catch .wouldBlock {
            return
        } catch {
            throw .closed
        }
        guard count > 0 else { throw .closed }
        let filled = block
        let bytes = filled.span.bytes.extracting(first: count)
        guard let tls else { return try reader.feed(bytes) }
        try tls.receive(bytes)
        if isShakingHands { return }
        // Replies that came with the end are for the caller first.
        hasEnded = try !tls.decrypt { piece throws(RedisError) in try reader.feed(piece) }
        tls.moveUnsent(to: &outgoing)
    }

    /// Has the kernel forget at close what was not sent yet: it would go on trying, and the server hear of it minutes later.
    ///
    /// The corresponding C function is `setsockopt` with `SO_LINGER`.
    private func discardUnsent() {
        var now = linger(l_onoff: 1, l_linger: 0)
        setsockopt(socket.rawValue, SOL_SOCKET, SO_LINGER, &now, socklen_t(MemoryLayout.size(ofValue: now)))
    }

    private func orFail<Result>(_ body: () throws(RedisError) -> Result) throws(RedisError) -> Result {
        if let failure { throw failure }
        do throws(RedisError) {
            return try body()
        } catch {
            failure = error
            discardUnsent()
            throw error
        }
    }
}
