import CLinux
import Glibc
import Linux
import SystemPackage

/// A connection to one Redis server.
///
/// Not thread-safe. Every wait has a limit, and a closed socket raises no SIGPIPE. After an error the connection is
/// unusable and throws the same error again.
package final class RedisConnection {
    /// Bytes of all replies to one pipeline.
    static let maximumPipeline = 64 << 20

    /// The server's URL, without credentials.
    package let place: String

    private let socket: OwnedDescriptor
    private let tls: TLSSession?
    private let replyTimeout: Duration
    private let reader = RedisReplyReader()
    /// Bytes for the socket, encrypted with TLS; those before `sent` have been written.
    private var outgoing: [UInt8] = []
    private var sent = 0
    private var block = [UInt8](repeating: 0, count: 64 << 10)
    private var isHandshaking: Bool
    private var hasEnded = false
    private var failure: RedisError?

    /// - Parameter socket: Connected and non-blocking.
    init(_ socket: consuming OwnedDescriptor, tls: TLSSession?, place: String, replyTimeout: Duration) {
        self.socket = socket
        self.tls = tls
        self.place = place
        self.replyTimeout = replyTimeout
        isHandshaking = tls != nil
    }

    /// Sends commands and waits for a reply to each; an error reply is a reply.
    ///
    /// Receives while it sends, because a server may stop reading until its replies are read.
    package func pipeline(_ commands: [RedisCommand]) throws(RedisError) -> [RedisReply] {
        try orFail { () throws(RedisError) in
            guard reader.unread == 0 else { throw .protocolViolation("a reply to no command") }
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
                guard try turn(until: limit) else { throw .timedOut("reply from \(place)") }
                received += reader.unread - before
                guard received <= Self.maximumPipeline else {
                    throw .protocolViolation("more than \(Self.maximumPipeline) bytes of replies")
                }
            }
        }
    }

    /// Sends commands without waiting for replies, which `receive` returns.
    package func send(_ commands: [RedisCommand]) throws(RedisError) {
        try orFail { () throws(RedisError) in
            let limit = ContinuousClock.now + replyTimeout
            var queued = 0
            while queued < commands.count || sent < outgoing.count {
                queued += try queue(portionOf: commands[queued...])
                guard try turn(until: limit) else { throw .timedOut("room for a command to \(place)") }
            }
        }
    }

    /// Waits for the next reply or message.
    ///
    /// Returns a reply that has been read already before it looks at `event`, and looks at `event` before it reads. Does
    /// not wait with a limit in the past.
    ///
    /// - Returns: Nil at the limit or when the event is signalled. The event is not reset.
    package func receive(
        until limit: ContinuousClock.Instant, orRaised event: EventFD? = nil
    ) throws(RedisError) -> RedisReply? {
        try orFail { () throws(RedisError) in
            while true {
                if let reply = try reader.next() { return reply }
                guard try turn(until: limit, orRaised: event) else { return nil }
            }
        }
    }

    // MARK: Bytes

    /// Does nothing without TLS.
    func handshake(until limit: ContinuousClock.Instant) throws(RedisError) {
        guard let tls else { return }
        try orFail { () throws(RedisError) in
            while try !tls.handshake() {
                tls.moveUnsent(to: &outgoing)
                guard try turn(until: limit) else { throw .timedOut("TLS handshake with \(place)") }
            }
            tls.moveUnsent(to: &outgoing)
            isHandshaking = false
        }
    }

    /// Encodes commands: all, or with TLS as many as fit into one record, at least one.
    ///
    /// Redis 7.0 and Valkey up to 8.0 close a TLS connection ("SSL routines::bad length") when new replies join those
    /// that wait for room in the socket (valkey-io/valkey#1135). They execute a record before they reply, so it is safe
    /// to wait for the replies to each record.
    ///
    /// - Returns: The number of commands encoded.
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

    /// Waits until the socket is ready, then sends and receives.
    ///
    /// - Returns: False at the limit or when the event is signalled.
    private func turn(
        until limit: ContinuousClock.Instant, orRaised event: EventFD? = nil
    ) throws(RedisError) -> Bool {
        guard !hasEnded else { throw .closed }
        let wanted = sent < outgoing.count ? POLLIN | POLLOUT : POLLIN
        // A negative descriptor is ignored.
        var questions = [
            pollfd(fd: socket.rawValue, events: Int16(wanted), revents: 0),
            pollfd(fd: event?.descriptor ?? -1, events: Int16(POLLIN), revents: 0),
        ]
        guard poll(&questions, until: limit), questions[1].revents == 0 else { return false }
        let events = CInt(questions[0].revents)
        if events & POLLOUT != 0 { try sendSome() }
        if events & ~POLLOUT != 0 { try receiveSome() }
        return true
    }

    private func sendSome() throws(RedisError) {
        do throws(Errno) {
            let bytes = outgoing
            let unsent = bytes.span.bytes.extracting(droppingFirst: sent)
            sent += try unsent.withUnsafeBytes { rest throws(Errno) in
                try retryingInterrupts {
                    Glibc.send(socket.rawValue, rest.baseAddress, rest.count, clinux_msg_nosignal)
                }
            }
        } catch .wouldBlock {
            return
        } catch {
            // The server closed the connection. Its last reply may tell why and is still to be read.
            sent = outgoing.count
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
        if isHandshaking { return }
        // The caller gets the last replies before the error.
        hasEnded = try !tls.decrypt { piece throws(RedisError) in try reader.feed(piece) }
        tls.moveUnsent(to: &outgoing)
    }

    /// Makes close(2) discard unsent bytes, which the server might otherwise receive minutes later.
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
