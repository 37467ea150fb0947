import FoundationEssentials
import SystemPackage

/// How files of `.pulse` are spelled.
enum PulseText {
    /// Spells control characters as escapes that JSON would let stand, DEL and U+0080 to U+009F: some are a terminal's.
    private static func escapingControls(_ json: Data) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(json.count + 1)
        for byte in json {
            let isSecond = bytes.last == 0xC2 && (0x80...0x9F).contains(byte)
            guard isSecond || byte == 0x7F else {
                bytes.append(byte)
                continue
            }
            if isSecond { bytes.removeLast() }
            bytes += Array("\\u00\(String(byte, radix: 16))".utf8)
        }
        return bytes
    }

    /// JSON with keys in snake case and in order, for people and programs, ending in a line feed.
    static func json(_ value: some Encodable) throws(Errno) -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        encoder.keyEncodingStrategy = .convertToSnakeCase
        // They have only numbers and strings, so that this does not happen.
        guard let json = try? encoder.encode(value) else { throw .ioError }
        return escapingControls(json) + [UInt8(ascii: "\n")]
    }
}
