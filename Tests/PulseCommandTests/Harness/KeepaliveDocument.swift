import FoundationEssentials

/// A document as `gt` writes and reads it.
struct KeepaliveDocument: Decodable {
    let lastCommand: String?
    let timestamp: String

    /// What a tool makes of the bytes of a file.
    ///
    /// Throws where the tool would find no document.
    init(_ text: String) throws {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        self = try decoder.decode(Self.self, from: Data(text.utf8))
    }

    /// Whole seconds since 1970; -1 for a time that is not in UTC.
    var seconds: Int {
        let time = timestamp.hasSuffix("Z") ? try? Date(timestamp.prefix(19) + "Z", strategy: .iso8601) : nil
        return time.map { Int($0.timeIntervalSince1970) } ?? -1
    }

    /// The text of one, byte for byte as Go's encoder has it.
    static func text(_ command: String, age: Int = 0, filler: Int = 0) -> String {
        let filler = filler > 0 ? #","filler":"\#(String(repeating: "x", count: filler))""# : ""
        return #"{"last_command":"\#(command)","timestamp":"\#(timestamp(age: age))"\#(filler)}"#
    }

    /// Now, or some seconds ago, as Go prints a time.
    static func timestamp(age: Int = 0) -> String {
        Date(timeIntervalSinceNow: TimeInterval(-age)).formatted(.iso8601).dropLast() + ".123456789Z"
    }
}
