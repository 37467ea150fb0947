import FoundationEssentials
import SystemPackage

/// How files of `.pulse` are spelled.
enum PulseText {
    /// JSON with keys in snake case and in order, for people and programs, ending in a line feed.
    static func json(_ value: some Encodable) throws(Errno) -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        encoder.keyEncodingStrategy = .convertToSnakeCase
        // They have only numbers and strings, so that this does not happen.
        guard let json = try? encoder.encode(value) else { throw .ioError }
        return json + [UInt8(ascii: "\n")]
    }
}
