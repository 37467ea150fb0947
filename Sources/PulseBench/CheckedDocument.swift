import FoundationEssentials

/// A keepalive document that can tell whether it was read back whole.
///
/// It looks as Gas Town writes it, with one more field: a checksum over every byte before that field. Documents that
/// follow one another differ in length and content, so any mixture of two is noticed.
struct CheckedDocument {
    /// What a reader got.
    enum Reading: Equatable {
        /// One whole document.
        case whole
        /// No byte at all.
        case empty
        /// Bytes that are not a JSON object.
        case unparsable
        /// A JSON object made of more than one document.
        case mixed
    }

    let bytes: [UInt8]

    /// The `number`th document of a writer; `length` is that of its command, in bytes.
    ///
    /// It is stamped with the present time: pulsefs would put that in for another one, and the checksum would not fit.
    init(number: Int, length: Int, now: Date = Date()) {
        let timestamp = now.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
        let letter = UInt8(ascii: "a") + UInt8(number % 26)
        let command = String(decoding: repeatElement(letter, count: length), as: UTF8.self)
        let head = Array(#"{"last_command":"gt bench \#(number) \#(command)","timestamp":"\#(timestamp)""#.utf8)
        bytes = head + Self.tail(after: head[...])
    }

    /// Judges what was read.
    static func reading(_ bytes: [UInt8]) -> Reading {
        if bytes.isEmpty { return .empty }
        let headCount = bytes.count - tailCount
        if headCount > 0, bytes[headCount...].elementsEqual(tail(after: bytes[..<headCount])) { return .whole }
        let isObject = (try? JSONDecoder().decode([String: String].self, from: Data(bytes))) != nil
        return isObject ? .mixed : .unparsable
    }

    private static let tailCount = #","check":"0123456789abcdef"}"#.utf8.count

    /// The checksum field and the closing brace: 64-bit FNV-1a, in a fixed number of digits.
    private static func tail(after head: ArraySlice<UInt8>) -> [UInt8] {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in head { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
        let digits = String(hash, radix: 16)
        let padding = String(repeating: "0", count: 16 - digits.utf8.count)
        return Array(#","check":"\#(padding)\#(digits)"}"#.utf8)
    }
}
