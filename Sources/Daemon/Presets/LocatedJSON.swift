/// A value of a JSON text, and where it begins.
///
/// Reads JSON as people write it: comments (`//` and `/* */`), a comma after the last element, names without quotes, and
/// strings in single quotes. All of that is JSON5. FoundationEssentials reads JSON5 too, but tells no place, and takes
/// the first of two members with the same name without a word.
struct LocatedJSON {
    enum Value {
        case null
        case boolean
        case number
        case string(String)
        case array([LocatedJSON])
        /// In order of appearance; names may repeat.
        case object([Member])
    }

    struct Member {
        let name: String
        /// Of the name.
        let offset: Int
        let value: LocatedJSON
    }

    let value: Value
    /// In bytes, of its first one.
    let offset: Int

    /// Why a text is not JSON: a sentence, and the offset of the byte where that shows.
    struct Problem: Error {
        let offset: Int
        let message: String
    }

    /// Hostile input must not overflow the stack.
    static let maximumDepth = 16
    /// Bounds the memory: 20,000 values take about 2 MB.
    static let maximumCount = 20_000

    /// - Parameter bytes: Of any content.
    init(_ bytes: [UInt8]) throws(Problem) {
        do {
            _ = try UTF8Span(validating: bytes.span)
        } catch {
            throw Problem(offset: error.byteOffsets.lowerBound, message: "This byte is not valid UTF-8.")
        }
        var parser = Parser(bytes: bytes)
        self = try parser.text()
    }

    /// For messages: `a string`.
    var kind: String {
        switch value {
        case .null: "null"
        case .boolean: "true or false"
        case .number: "a number"
        case .string: "a string"
        case .array: "an array"
        case .object: "an object"
        }
    }

    fileprivate init(_ value: Value, at offset: Int) {
        self.value = value
        self.offset = offset
    }
}

/// Recursive descent, bounded by `LocatedJSON.maximumDepth`; linear.
private struct Parser {
    typealias Problem = LocatedJSON.Problem

    let bytes: [UInt8]
    private var position = 0
    private var depth = 0
    private var count = 0

    init(bytes: [UInt8]) {
        self.bytes = bytes
        // Some editors of Windows begin a text with a byte order mark.
        if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { position = 3 }
    }

    private var next: Unicode.Scalar? { position < bytes.count ? Unicode.Scalar(bytes[position]) : nil }

    private func problem(_ message: String, at offset: Int? = nil) -> Problem {
        Problem(offset: offset ?? position, message: message)
    }

    mutating func text() throws(Problem) -> LocatedJSON {
        try skipSpace()
        let value = try value()
        try skipSpace()
        guard next == nil else { throw problem("The text goes on after its end with \(nextCharacter).") }
        return value
    }

    /// The next character, for messages.
    private var nextCharacter: String {
        guard next != nil else { return "the end of the text" }
        // Valid UTF-8 has whole characters. A letter and its marks may be long, a scalar is not.
        guard let scalar = String(decoding: bytes[position...].prefix(4), as: UTF8.self).unicodeScalars.first else {
            return "nothing"
        }
        let isVisible = scalar.value > 0x20 && scalar.value < 0x7F
        return isVisible ? "'\(scalar)'" : "the character U+\(hexadecimal(scalar.value))"
    }

    private func hexadecimal(_ number: UInt32) -> String {
        let digits = String(number, radix: 16, uppercase: true)
        return String(repeating: "0", count: max(0, 4 - digits.count)) + digits
    }

    // MARK: Space

    private mutating func skipSpace() throws(Problem) {
        while let byte = next {
            switch byte {
            case " ", "\t", "\n", "\r": position += 1
            case "/": try skipComment()
            default: return
            }
        }
    }

    private mutating func skipComment() throws(Problem) {
        let start = position
        position += 1
        switch next {
        case "/": while next != nil, !isAtEndOfLine { position += 1 }
        case "*":
            position += 1
            while let byte = next {
                position += 1
                if byte == "*", next == "/" {
                    position += 1
                    return
                }
            }
            throw problem("The comment that begins here is not closed with */.", at: start)
        default: throw problem("A comment begins with // or /*.", at: start)
        }
    }

    /// Whether a comment ends here: JSON5 counts the line and paragraph separators, U+2028 and U+2029.
    private var isAtEndOfLine: Bool {
        next == "\n" || next == "\r" || bytes[position...].starts(with: [0xE2, 0x80, 0xA8])
            || bytes[position...].starts(with: [0xE2, 0x80, 0xA9])
    }

    // MARK: Values

    private mutating func value() throws(Problem) -> LocatedJSON {
        let start = position
        count += 1
        guard count <= LocatedJSON.maximumCount else {
            throw problem("There are more than \(LocatedJSON.maximumCount) values.")
        }
        switch next {
        case "{": return LocatedJSON(.object(try object()), at: start)
        case "[": return LocatedJSON(.array(try array()), at: start)
        case "\"", "'": return LocatedJSON(.string(try string()), at: start)
        case let byte? where byte.beginsNumber:
            while let byte = next, byte.isPartOfWord || byte.beginsNumber { position += 1 }
            return LocatedJSON(.number, at: start)
        case let byte? where byte.isPartOfWord:
            switch word() {
            case "null": return LocatedJSON(.null, at: start)
            case "true", "false": return LocatedJSON(.boolean, at: start)
            case let word: throw problem("Text must be in quotes: \"\(word.prefix(80))\".", at: start)
            }
        case nil: throw problem("The text ends where a value is expected.")
        default: throw problem("A value is expected here, not \(nextCharacter).")
        }
    }

    private mutating func enter() throws(Problem) {
        depth += 1
        guard depth <= LocatedJSON.maximumDepth else {
            throw problem("Objects and arrays are nested more than \(LocatedJSON.maximumDepth) deep.")
        }
        position += 1
        try skipSpace()
    }

    /// Ends an object or array, or passes the comma before its next element.
    ///
    /// - Returns: Whether another element follows.
    private mutating func goesOn(
        before end: Unicode.Scalar, of container: String, from start: Int
    ) throws(Problem) -> Bool {
        try skipSpace()
        if next == "," {
            position += 1
            try skipSpace()
        } else if next != end, next != nil {
            throw problem("A comma or \(end) is expected here, not \(nextCharacter).")
        }
        guard next != nil else { throw problem("The \(container) that begins here is not closed.", at: start) }
        return next != end
    }

    private mutating func leave() {
        position += 1
        depth -= 1
    }

    private mutating func array() throws(Problem) -> [LocatedJSON] {
        let start = position
        var elements: [LocatedJSON] = []
        try enter()
        guard next != nil else { throw problem("The array that begins here is not closed.", at: start) }
        if next != "]" {
            repeat { elements.append(try value()) } while try goesOn(before: "]", of: "array", from: start)
        }
        leave()
        return elements
    }

    private mutating func object() throws(Problem) -> [LocatedJSON.Member] {
        let start = position
        var members: [LocatedJSON.Member] = []
        try enter()
        guard next != nil else { throw problem("The object that begins here is not closed.", at: start) }
        if next != "}" {
            repeat { members.append(try member()) } while try goesOn(before: "}", of: "object", from: start)
        }
        leave()
        return members
    }

    private mutating func member() throws(Problem) -> LocatedJSON.Member {
        let start = position
        let name: String
        switch next {
        case "\"", "'": name = try string()
        case let byte? where byte.isPartOfWord && !byte.beginsNumber: name = word()
        default: throw problem("A name is expected here, not \(nextCharacter).")
        }
        try skipSpace()
        guard next == ":" else { throw problem("A colon is expected after a name, not \(nextCharacter).") }
        position += 1
        try skipSpace()
        return LocatedJSON.Member(name: name, offset: start, value: try value())
    }

    private mutating func word() -> String {
        let start = position
        while let byte = next, byte.isPartOfWord { position += 1 }
        return String(decoding: bytes[start..<position], as: UTF8.self)
    }

    // MARK: Strings

    private mutating func string() throws(Problem) -> String {
        let start = position
        let quote = bytes[position]
        var text: [UInt8] = []
        position += 1
        while let byte = next {
            switch byte {
            case _ where bytes[position] == quote:
                position += 1
                return String(decoding: text, as: UTF8.self)
            case "\\": try escape(into: &text)
            case "\n", "\r": throw problem("The string that begins here is not closed in its line.", at: start)
            case "\0"..<" ": throw problem("A string must not contain \(nextCharacter).")
            default:
                text.append(bytes[position])
                position += 1
            }
        }
        throw problem("The string that begins here is not closed.", at: start)
    }

    private mutating func escape(into text: inout [UInt8]) throws(Problem) {
        let start = position
        position += 1
        switch next {
        case "\"", "'", "\\", "/": text.append(bytes[position])
        case "b": text.append(0x08)
        case "f": text.append(0x0C)
        case "n": text.append(0x0A)
        case "r": text.append(0x0D)
        case "t": text.append(0x09)
        case "u":
            text += Array(String(try escapedScalar(from: start)).utf8)
            return
        default: throw problem("There is no escape of a backslash and \(nextCharacter).", at: start)
        }
        position += 1
    }

    /// Reads `uXXXX`, or two of them for a scalar above U+FFFF.
    private mutating func escapedScalar(from start: Int) throws(Problem) -> Unicode.Scalar {
        let first = try escapedUnit(from: start)
        if let scalar = Unicode.Scalar(first) { return scalar }
        if UTF16.isLeadSurrogate(UInt16(first)), next == "\\" {
            position += 1
            let second = try escapedUnit(from: start)
            if UTF16.isTrailSurrogate(UInt16(second)),
                let scalar = Unicode.Scalar(0x10000 + (first - 0xD800) << 10 + (second - 0xDC00))
            {
                return scalar
            }
        }
        throw problem("This escape is half of a character: a surrogate without the other.", at: start)
    }

    private mutating func escapedUnit(from start: Int) throws(Problem) -> UInt32 {
        let digits = bytes[position...].dropFirst().prefix(4)
        let text = String(decoding: digits, as: UTF8.self)
        guard next == "u", text.utf8.count == 4, text.allSatisfy(\.isHexDigit), let unit = UInt32(text, radix: 16)
        else { throw problem("An escape with u needs four hexadecimal digits: \\u00e4.", at: start) }
        position += 5
        return unit
    }
}

extension Unicode.Scalar {
    fileprivate var beginsNumber: Bool {
        switch self {
        case "-", "+", ".", "0"..."9": true
        default: false
        }
    }

    fileprivate var isPartOfWord: Bool {
        switch self {
        case "a"..."z", "A"..."Z", "0"..."9", "_", "$": true
        default: false
        }
    }
}
