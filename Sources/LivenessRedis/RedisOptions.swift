/// How to connect to a Redis server.
package struct RedisOptions: Sendable {
    package var url: RedisURL
    /// Certificate authorities to trust, PEM; nil is the system's.
    package var caFile: String?
    /// What CLIENT LIST shows for the connection; without spaces.
    package var clientName: String
    /// For the name server, the network and TLS together; anew for each sentinel and for the node that it names.
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
