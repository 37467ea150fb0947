/// The positions of a JSON text's top-level members.
///
/// Accepts the grammar of Go's `encoding/json`, strict RFC 8259: no control characters in strings, nothing after the
/// value, at most 10,000 nested containers. The bytes must be UTF-8. Linear, with a stack of its own, so hostile input
/// cannot overflow the thread's.
struct JSONOutline {
    /// A `"key": value` of the outermost object.
    struct Member {
        /// Without the quotes, escapes as written.
        let key: Range<Int>
        /// Without surrounding white space.
        let value: Range<Int>
    }

    /// False for an array, a string, a number, `true`, `false` or `null`.
    let isObject: Bool
    /// In order of appearance; keys may repeat.
    let members: [Member]
    /// Where to insert another member: after the last one, or after the opening brace.
    let insertionPoint: Int

    let bytes: [UInt8]

    /// Nil unless the bytes are one JSON text.
    init?(_ bytes: [UInt8]) {
        var scanner = JSONScanner(bytes)
        guard scanner.scan() else { return nil }
        self.bytes = bytes
        let start = bytes.firstIndex { !$0.isJSONWhiteSpace } ?? 0
        isObject = bytes[start] == UInt8(ascii: "{")
        members = scanner.members
        insertionPoint = members.last?.value.upperBound ?? start + 1
    }

    /// The members that Go decodes into the field tagged `name`, which must be lower-case ASCII.
    ///
    /// Go decodes escapes and folds case; U+017F folds to `s` and U+212A to `k`.
    func members(named name: String) -> [Member] {
        members.filter { member in
            let key = bytes[member.key]
            // Most keys are plain and need no decoding.
            guard key.contains(where: { $0 == UInt8(ascii: "\\") || $0 > 0x7F }) else {
                return key.lazy.map { Self.folded(Unicode.Scalar($0)) }.elementsEqual(name.unicodeScalars)
            }
            return string(at: member.key).unicodeScalars.lazy.map(Self.folded).elementsEqual(name.unicodeScalars)
        }
    }

    /// The string that Go decodes into the field tagged `name`; nil if there is none.
    func string(_ name: String) -> String? {
        guard let value = members(named: name).last?.value, bytes[value.lowerBound] == UInt8(ascii: "\"") else {
            return nil
        }
        return string(at: value.dropFirst().dropLast())
    }

    /// The object that Go decodes into the field tagged `name`, with its own positions; nil if there is none.
    func object(_ name: String) -> JSONOutline? {
        members(named: name).last.flatMap(object)
    }

    /// The members that are objects, by decoded key, as Go decodes a map.
    var objects: [String: JSONOutline] {
        var objects: [String: JSONOutline] = [:]
        for member in members { objects[string(at: member.key)] = object(member) }
        return objects
    }

    private func object(_ member: Member) -> JSONOutline? {
        guard bytes[member.value.lowerBound] == UInt8(ascii: "{") else { return nil }
        return JSONOutline(Array(bytes[member.value]))
    }

    /// Decodes a string without its quotes; a lone surrogate becomes U+FFFD, as in Go.
    func string(at range: Range<Int>) -> String {
        let text = String(decoding: bytes[range], as: UTF8.self)
        guard text.utf8.contains(UInt8(ascii: "\\")) else { return text }
        // \u escapes are UTF-16 units; a surrogate pair becomes one scalar.
        var units: [UInt16] = []
        var scalars = text.unicodeScalars.makeIterator()
        while let scalar = scalars.next() {
            if scalar == "\\" {
                units.append(Self.escapedUnit(&scalars))
            } else {
                units.append(contentsOf: scalar.utf16)
            }
        }
        return String(decoding: units, as: UTF16.self)
    }

    /// Decodes the rest of an escape; the scanner has validated it.
    private static func escapedUnit(_ scalars: inout String.UnicodeScalarView.Iterator) -> UInt16 {
        switch scalars.next() {
        case "b": 0x08
        case "t": 0x09
        case "n": 0x0A
        case "f": 0x0C
        case "r": 0x0D
        case "u":
            (0..<4).reduce(0) { unit, _ in
                unit << 4 | UInt16(scalars.next().flatMap { Character($0).hexDigitValue } ?? 0)
            }
        case let other: UInt16(truncatingIfNeeded: other?.value ?? 0)
        }
    }

    private static func folded(_ scalar: Unicode.Scalar) -> Unicode.Scalar {
        switch scalar {
        case "A"..."Z": Unicode.Scalar(UInt8(scalar.value) | 0x20)
        case "\u{17F}": "s"
        case "\u{212A}": "k"
        default: scalar
        }
    }
}

/// Validates a JSON text and finds its members.
private struct JSONScanner {
    /// Go's `maxNestingDepth`.
    static let maximumDepth = 10_000

    private let bytes: [UInt8]
    private var position = 0
    /// For each open container, outermost first: whether it is an object.
    private var isObject: [Bool] = []
    private(set) var members: [JSONOutline.Member] = []

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
    }

    /// Whether the bytes are one JSON text; call once.
    mutating func scan() -> Bool {
        var (key, valueStart) = (0..<0, 0)
        repeat {
            if isObject.last == true {
                guard let next = readKey() else { return false }
                if isObject.count == 1 { key = next }
            }
            skipWhiteSpace()
            if isObject.count == 1 { valueStart = position }
            guard let isComplete = readValue() else { return false }
            // A value may end several containers, which are values themselves.
            while isComplete, let inObject = isObject.last {
                if isObject.count == 1, inObject {
                    members.append(JSONOutline.Member(key: key, value: valueStart..<position))
                }
                skipWhiteSpace()
                if skip(",") { break }
                guard skip(inObject ? "}" : "]") else { return false }
                isObject.removeLast()
            }
        } while !isObject.isEmpty
        skipWhiteSpace()
        return position == bytes.count
    }

    /// Reads a key and its colon; nil on a syntax error.
    private mutating func readKey() -> Range<Int>? {
        skipWhiteSpace()
        let start = position + 1
        guard readString() else { return nil }
        let key = start..<position - 1
        skipWhiteSpace()
        return skip(":") ? key : nil
    }

    /// Reads a value, or opens a container that is not empty, which is not complete then; nil on a syntax error.
    private mutating func readValue() -> Bool? {
        switch current {
        case "{": return openContainer(isObject: true)
        case "[": return openContainer(isObject: false)
        case "\"": return readString() ? true : nil
        case "-", .some("0"..."9"): return readNumber() ? true : nil
        default: return skip("true") || skip("false") || skip("null") ? true : nil
        }
    }

    private mutating func openContainer(isObject inObject: Bool) -> Bool? {
        guard isObject.count < Self.maximumDepth else { return nil }
        position += 1
        skipWhiteSpace()
        if skip(inObject ? "}" : "]") { return true }
        isObject.append(inObject)
        return false
    }

    private mutating func readString() -> Bool {
        guard skip("\"") else { return false }
        while let scalar = current {
            position += 1
            switch scalar {
            case "\"": return true
            case "\\": guard readEscape() else { return false }
            case "\0"..."\u{1F}": return false
            default: break
            }
        }
        return false
    }

    private mutating func readEscape() -> Bool {
        if skip(if: { "\"\\/bfnrt".unicodeScalars.contains($0) }) { return true }
        guard skip("u") else { return false }
        return (0..<4).allSatisfy { _ in skip { "0"..."9" ~= $0 || "a"..."f" ~= $0 || "A"..."F" ~= $0 } }
    }

    private mutating func readNumber() -> Bool {
        _ = skip("-")
        guard skip("0") || skipDigits() else { return false }
        if skip("."), !skipDigits() { return false }
        if skip("e") || skip("E") {
            _ = skip("+") || skip("-")
            return skipDigits()
        }
        return true
    }

    /// The next byte, as a scalar.
    private var current: Unicode.Scalar? {
        position < bytes.count ? Unicode.Scalar(bytes[position]) : nil
    }

    private mutating func skipWhiteSpace() {
        while position < bytes.count, bytes[position].isJSONWhiteSpace { position += 1 }
    }

    private mutating func skip(if isWanted: (Unicode.Scalar) -> Bool) -> Bool {
        guard let current, isWanted(current) else { return false }
        position += 1
        return true
    }

    private mutating func skip(_ text: StaticString) -> Bool {
        let end = position + text.utf8CodeUnitCount
        guard end <= bytes.count, text.withUTF8Buffer({ bytes[position..<end].elementsEqual($0) }) else { return false }
        position = end
        return true
    }

    private mutating func skipDigits() -> Bool {
        let start = position
        while skip(if: { "0"..."9" ~= $0 }) {}
        return position > start
    }
}

extension UInt8 {
    /// Space, tab, line feed or carriage return.
    var isJSONWhiteSpace: Bool {
        self == 0x20 || self == 0x09 || self == 0x0A || self == 0x0D
    }
}

// MARK: - Writing

extension String {
    /// A JSON string.
    ///
    /// DEL and U+0080 to U+009F are escaped, too, because terminals obey some of them.
    var jsonLiteral: String { "\"\(goEscaped(escapesLateControls: true))\"" }

    /// The text between the quotes of a JSON string, as Go's `json.Marshal` writes it.
    func goEscaped(escapesLateControls: Bool = false) -> String {
        var escaped = ""
        for scalar in unicodeScalars {
            switch scalar {
            case "\"", "\\": escaped += "\\\(scalar)"
            case "\u{08}": escaped += "\\b"
            case "\t": escaped += "\\t"
            case "\n": escaped += "\\n"
            case "\u{0C}": escaped += "\\f"
            case "\r": escaped += "\\r"
            case "\u{7F}"..."\u{9F}" where !escapesLateControls: escaped.unicodeScalars.append(scalar)
            case "\0"..."\u{1F}", "\u{7F}"..."\u{9F}", "<", ">", "&", "\u{2028}", "\u{2029}":
                escaped += "\\u" + scalar.value.padded(to: 4, radix: 16)
            default: escaped.unicodeScalars.append(scalar)
            }
        }
        return escaped
    }
}

extension BinaryInteger {
    /// At least `width` digits.
    func padded(to width: Int, radix: Int = 10) -> String {
        let digits = String(magnitude, radix: radix)
        return (self < 0 ? "-" : "") + String(repeating: "0", count: Swift.max(0, width - digits.utf8.count)) + digits
    }
}
