import FoundationEssentials

/// A document in `gt`'s format.
struct KeepaliveDocument: Decodable {
    let lastCommand: String?
    let timestamp: String

    /// Parses a file as a tool does.
    ///
    /// Throws for an invalid document.
    init(_ text: String) throws {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        self = try decoder.decode(Self.self, from: Data(text.utf8))
    }

    /// Whole seconds since 1970; -1 for a time not in UTC.
    var seconds: Int {
        let time = timestamp.hasSuffix("Z") ? try? Date(timestamp.prefix(19) + "Z", strategy: .iso8601) : nil
        return time.map { Int($0.timeIntervalSince1970) } ?? -1
    }

    /// The text of a document, byte for byte as Go encodes it.
    static func text(_ command: String, age: Int = 0, filler: Int = 0) -> String {
        let filler = filler > 0 ? #","filler":"\#(String(repeating: "x", count: filler))""# : ""
        return #"{"last_command":"\#(command)","timestamp":"\#(timestamp(age: age))"\#(filler)}"#
    }

    /// The current time, or some seconds ago, as Go prints it.
    static func timestamp(age: Int = 0) -> String {
        Date(timeIntervalSinceNow: TimeInterval(-age)).formatted(.iso8601).dropLast() + ".123456789Z"
    }
}
