import FoundationEssentials
import SystemPackage

/// JSON of `.pulse` and of the command: keys in snake case, sorted and pretty-printed.
package enum JSONText {
    /// Nil if the text is not a JSON text of such a value.
    package static func decode<Value: Decodable>(_ text: String) -> Value? {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try? decoder.decode(Value.self, from: Data(text.utf8))
    }

    /// The bytes of a file of `.pulse`: one value, and a line feed.
    static func file(_ value: some Encodable) throws(Errno) -> [UInt8] {
        // Values contain only numbers and strings, so encoding does not fail.
        guard let bytes = try? bytes(value) else { throw .ioError }
        return bytes + [UInt8(ascii: "\n")]
    }

    package static func encode(_ value: some Encodable) throws -> String {
        String(decoding: try bytes(value), as: UTF8.self)
    }

    private static func bytes(_ value: some Encodable) throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        encoder.keyEncodingStrategy = .convertToSnakeCase
        return escapingControls(try encoder.encode(value))
    }

    /// Escapes DEL and U+0080 to U+009F, which JSON permits: terminals obey some of them.
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
}
