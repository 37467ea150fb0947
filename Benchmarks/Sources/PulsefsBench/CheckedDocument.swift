import FoundationEssentials

/// A keepalive document with a checksum, which shows whether it was read back whole.
///
/// It looks like Gas Town's, with a last field that holds a checksum over all bytes before it. Consecutive documents
/// differ in length and content, so a mixture of two is noticed.
struct CheckedDocument {
    /// What a reader got.
    enum Outcome: Equatable {
        case whole
        case empty
        /// Not a JSON object.
        case unparsable
        /// A JSON object made of more than one document.
        case mixed
    }

    let bytes: [UInt8]

    /// `length` is the length of the padding in its command, in bytes.
    ///
    /// It has the present time as its timestamp: pulsefs would replace a future one, and the checksum would not match.
    init(number: Int, length: Int = 16, now: Date = Date()) {
        let timestamp = now.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
        let letter = UInt8(ascii: "a") + UInt8(number % 26)
        let command = String(decoding: repeatElement(letter, count: length), as: UTF8.self)
        let head = Array(#"{"last_command":"gt bench \#(number) \#(command)","timestamp":"\#(timestamp)""#.utf8)
        bytes = head + Self.tail(after: head[...])
    }

    static func outcome(of bytes: [UInt8]) -> Outcome {
        if bytes.isEmpty { return .empty }
        let headCount = bytes.count - tailCount
        if headCount > 0, bytes[headCount...].elementsEqual(tail(after: bytes[..<headCount])) { return .whole }
        let isObject = (try? JSONDecoder().decode([String: String].self, from: Data(bytes))) != nil
        return isObject ? .mixed : .unparsable
    }

    private static let tailCount = #","check":"0123456789abcdef"}"#.utf8.count

    /// The checksum field (64-bit FNV-1a in 16 digits) and the closing brace.
    private static func tail(after head: ArraySlice<UInt8>) -> [UInt8] {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in head { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
        let digits = String(hash, radix: 16)
        let padding = String(repeating: "0", count: 16 - digits.utf8.count)
        return Array(#","check":"\#(padding)\#(digits)"}"#.utf8)
    }
}
