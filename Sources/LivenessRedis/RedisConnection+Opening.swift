import Linux
import SystemPackage

package struct RedisOptions: Sendable {
    package var url: RedisURL
    /// Trusted certificate authorities, PEM; nil for the system's.
    package var caFile: String?
    /// Shown by CLIENT LIST; without spaces.
    package var clientName: String
    /// For name resolution, TCP and TLS together; separately for each sentinel and for the primary.
    package var connectTimeout: Duration
    /// For one pipeline, from the first byte sent to the last received.
    package var replyTimeout: Duration

    package init(
        url: RedisURL, caFile: String? = nil, clientName: String = "pulsefs", connectTimeout: Duration = .seconds(2),
        replyTimeout: Duration = .seconds(2)
    ) {
        self.url = url
        self.caFile = caFile
        self.clientName = clientName
        self.connectTimeout = connectTimeout
        self.replyTimeout = replyTimeout
    }
}

extension RedisConnection {
    /// Connects, authenticates and selects the database; with a sentinel URL, to the primary that a sentinel names.
    ///
    /// Takes at most the connect timeout and three reply timeouts; with sentinels, that for each of them, and another
    /// reply timeout.
    package static func open(_ options: RedisOptions) throws(RedisError) -> RedisConnection {
        let url = options.url
        switch url.place {
        case .server(let host): return try open(host, options, url.credentials, database: url.database)
        case .socket(let path):
            let socket: OwnedDescriptor
            do throws(Errno) {
                socket = try SocketAddress(path: path).connect(until: .now + options.connectTimeout)
            } catch {
                throw Self.failure(error, connectingTo: "\(url)")
            }
            let connection = RedisConnection(socket, tls: nil, place: "\(url)", replyTimeout: options.replyTimeout)
            try connection.initialize(options, url.credentials, database: url.database)
            return connection
        case .sentinels(let sentinels, let service):
            let primary = try find(service, askingEachOf: sentinels, options)
            let connection = try open(primary, options, url.credentials, database: url.database)
            try connection.checkPrimary()
            return connection
        }
    }

    /// The primary, from the first sentinel that knows one.
    private static func find(
        _ service: String, askingEachOf sentinels: [RedisURL.Host], _ options: RedisOptions
    ) throws(RedisError) -> RedisURL.Host {
        var failure = RedisError.noPrimary("there is no sentinel to ask")
        for sentinel in sentinels {
            do throws(RedisError) {
                let connection = try open(sentinel, options, options.url.sentinelCredentials, database: 0)
                let question = RedisCommand("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)
                let reply = try connection.pipeline([question])[0].checked()
                guard reply != .null else {
                    throw RedisError.noPrimary("the sentinel at \(sentinel) does not know the service")
                }
                guard case .array(let parts) = reply, parts.count == 2, let name = parts[0].text, !name.isEmpty,
                    let port = parts[1].text.flatMap({ UInt16($0) }), port > 0
                else { throw RedisError.protocolViolation("a sentinel without an address") }
                return RedisURL.Host(name: name.printable(upTo: 255), port: port)
            } catch {
                // Of several errors, one that needs a person is reported.
                if !failure.isPermanent { failure = error }
            }
        }
        throw failure
    }

    /// A sentinel may name a former primary.
    private func checkPrimary() throws(RedisError) {
        let reply = try pipeline([RedisCommand("ROLE")])[0].checked()
        guard case .array(let parts) = reply, let role = parts.first?.text else {
            throw .protocolViolation("a node without a role")
        }
        guard role == "master" else { throw .noPrimary("\(place) is none, but what the sentinels name") }
    }

    private static func open(
        _ host: RedisURL.Host, _ options: RedisOptions, _ credentials: RedisURL.Credentials?, database: Int
    ) throws(RedisError) -> RedisConnection {
        let limit = ContinuousClock.now + options.connectTimeout
        let place = "\(options.url.isEncrypted ? "rediss" : "redis")://\(host)"
        let tls = options.url.isEncrypted ? try TLSSession(host: host.name, caFile: options.caFile) : nil
        let socket = try connect(to: host, until: limit, place: place)
        let connection = RedisConnection(socket, tls: tls, place: place, replyTimeout: options.replyTimeout)
        try connection.handshake(until: limit)
        try connection.initialize(options, credentials, database: database)
        return connection
    }

    /// Tries the host's addresses in turn, each with an equal share of the remaining time.
    private static func connect(
        to host: RedisURL.Host, until limit: ContinuousClock.Instant, place: String
    ) throws(RedisError) -> OwnedDescriptor {
        let addresses: [SocketAddress]
        switch SocketAddress.resolve(host, within: limit - .now) {
        case .found(let found)?: addresses = found
        case .failed(let why)?: throw .unreachable(place, why: why)
        case nil: throw .timedOut("address of \(place)")
        }
        var failure = Errno.addressNotAvailable
        for (index, address) in addresses.enumerated() {
            do throws(Errno) {
                let share = (limit - .now) / (addresses.count - index)
                return try address.connect(until: .now + share)
            } catch {
                failure = error
            }
        }
        throw Self.failure(failure, connectingTo: place)
    }

    private static func failure(_ failure: Errno, connectingTo place: String) -> RedisError {
        failure == .timedOut
            ? .timedOut("connection to \(place)") : .unreachable(place, why: failure.description)
    }

    /// Sends AUTH, SELECT and CLIENT SETNAME, as far as they are needed.
    private func initialize(
        _ options: RedisOptions, _ credentials: RedisURL.Credentials?, database: Int
    ) throws(RedisError) {
        var commands: [RedisCommand] = []
        if let credentials {
            commands.append(
                RedisCommand([Array("AUTH".utf8), credentials.user, credentials.password].compactMap { $0 }))
        }
        if database != 0 { commands.append(RedisCommand("SELECT", "\(database)")) }
        commands.append(RedisCommand("CLIENT", "SETNAME", options.clientName))
        // One at a time: a server that refuses AUTH may close the connection.
        for command in commands {
            let reply = try pipeline([command])[0]
            if case .status = reply { continue }
            guard let text = reply.error else { throw .protocolViolation("a greeting that is not returned") }
            let code = RedisError.code(of: text)
            let isGeneral = text == RedisError.tooManyClients
            switch command.description {
            case "AUTH": throw RedisError(replyToAuthentication: text)
            case "SELECT" where code == "ERR" && !isGeneral: throw .noSuchDatabase(database)
            // An ACL may forbid SETNAME, which is optional. Other errors may concern the connection as a whole.
            case "CLIENT" where !isGeneral && code != "NOAUTH" && code != "DENIED": continue
            default: throw RedisError(reply: text)
            }
        }
    }
}
