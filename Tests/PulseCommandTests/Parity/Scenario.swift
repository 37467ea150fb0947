/// A sequence of system calls whose outcomes are compared.
///
/// Written as text: an unindented line is the title, each indented line a call, spelled as in its man page.
///
///     sticky directory, another user's file
///       mkdir s 01777
///       as alice
///       create s/f 0644
///       as bob
///       unlink s/f
///
/// A line `for kind: file, directory` makes one scenario for each value and replaces `$kind` in the other lines.
/// Several such lines make one for each combination.
///
/// `@a = open f O_RDWR` names a descriptor. It stands for the file in `chmod @a 0600`, for a directory in `unlink
/// @a/x`, and for itself in `read @a 100`. Bytes are written as `\n`, `\s`, `\0` or `\xff`, repetitions as `n{255}` and
/// `(./){2000}`, an empty word as `""`. `Interpreter` lists the calls.
struct Scenario: Sendable {
    let title: String
    let lines: [Line]

    struct Line: Sendable {
        let text: String
        /// The name of the descriptor or mapping that it makes, without `@`.
        let result: String?
        let verb: String
        let words: [Word]

        init(_ text: String) throws(Malformed) {
            self.text = text
            var words: [Word] = []
            for word in text.split(separator: " ") { words.append(try Word(word)) }
            if words.count > 2, words[0].text.hasPrefix("@"), words[1].text == "=" {
                result = String(words[0].text.dropFirst())
                words.removeFirst(2)
            } else {
                result = nil
            }
            guard let verb = words.first else { throw Malformed("a line without words") }
            self.verb = verb.text
            self.words = Array(words.dropFirst())
        }
    }

    struct Word: Sendable {
        let text: String
        /// With escapes and repetitions expanded.
        let bytes: [UInt8]

        init(_ text: some StringProtocol) throws(Malformed) {
            self.text = String(text)
            if text == "\"\"" {
                bytes = []
            } else {
                var rest = Array(text.utf8)[...]
                bytes = try Word.expand(&rest, in: self.text, until: nil)
            }
        }

        private static func expand(
            _ rest: inout ArraySlice<UInt8>, in text: String, until end: UInt8?
        ) throws(Malformed) -> [UInt8] {
            var bytes: [UInt8] = []
            while let byte = rest.popFirst(), byte != end {
                var piece = [byte]
                if byte == UInt8(ascii: "(") {
                    piece = try expand(&rest, in: text, until: UInt8(ascii: ")"))
                } else if byte == UInt8(ascii: "\\") {
                    piece = [try escape(&rest, in: text)]
                }
                if rest.first == UInt8(ascii: "{") {
                    let number = rest.dropFirst().prefix { $0 != UInt8(ascii: "}") }
                    guard let count = Int(String(decoding: number, as: UTF8.self)) else { throw Malformed(text) }
                    rest = rest.dropFirst(number.count + 2)
                    bytes.reserveCapacity(bytes.count + piece.count * count)
                    for _ in 0..<count { bytes += piece }
                } else {
                    bytes += piece
                }
            }
            return bytes
        }

        private static func escape(_ rest: inout ArraySlice<UInt8>, in text: String) throws(Malformed) -> UInt8 {
            guard let letter = rest.popFirst() else { throw Malformed(text) }
            switch letter {
            case UInt8(ascii: "n"): return UInt8(ascii: "\n")
            case UInt8(ascii: "s"): return UInt8(ascii: " ")
            case UInt8(ascii: "0"): return 0
            case UInt8(ascii: "x"):
                guard let byte = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16) else {
                    throw Malformed(text)
                }
                rest = rest.dropFirst(2)
                return byte
            default: return letter
            }
        }
    }

    /// A malformed scenario: a mistake in the tests.
    struct Malformed: Error, CustomStringConvertible {
        let description: String
        init(_ description: String) { self.description = "malformed: \(description)" }
    }

    /// Parses scenarios.
    static func parse(_ text: String) throws(Malformed) -> [Scenario] {
        var scenarios: [Scenario] = []
        var rest = text.split(separator: "\n")[...]
        while let title = rest.popFirst() {
            let body = rest.prefix { $0.hasPrefix(" ") }.map { String($0.drop { $0 == " " }) }
            rest = rest.dropFirst(body.count)
            guard !title.hasPrefix(" "), !body.isEmpty else { throw Malformed("a title and indented lines: \(title)") }
            scenarios += try variants(title: String(title), body)
        }
        return scenarios
    }

    /// One for each combination of the values of its `for` lines.
    private static func variants(title: String, _ body: [String]) throws(Malformed) -> [Scenario] {
        var variants: [(values: [String], lines: [String])] = [([], body.filter { !$0.hasPrefix("for ") })]
        for line in body where line.hasPrefix("for ") {
            let parts = line.dropFirst(4).split(separator: ": ", maxSplits: 1)
            guard parts.count == 2 else { throw Malformed(line) }
            variants = variants.flatMap { variant in
                parts[1].split(separator: ", ").map { value in
                    let lines = variant.lines.map { $0.replacing("$\(parts[0])", with: value) }
                    return (variant.values + [String(value)], lines)
                }
            }
        }
        var scenarios: [Scenario] = []
        for (values, lines) in variants {
            let title = values.isEmpty ? title : "\(title) (\(values.joined(separator: ", ")))"
            scenarios.append(try Scenario(title: title, text: lines))
        }
        return scenarios
    }

    init(title: String, text: [String]) throws(Malformed) {
        self.title = title
        var lines: [Line] = []
        for line in text { lines.append(try Line(line)) }
        self.lines = lines
    }

    /// Whether it needs root, to become other users.
    var hasSeveralCallers: Bool { lines.contains { $0.verb == "as" } }
}

/// Bytes in a scenario's notation: printable characters, escapes, repetitions.
func spelled(_ bytes: [UInt8]) -> String {
    guard !bytes.isEmpty else { return "\"\"" }
    return bytes.withUnsafeBufferPointer { bytes in
        var text = ""
        var start = 0
        while start < bytes.count {
            var end = start + 1
            while end < bytes.count, bytes[end] == bytes[start] { end += 1 }
            let letter = letter(for: bytes[start])
            text += end - start < 8 ? String(repeating: letter, count: end - start) : "\(letter){\(end - start)}"
            start = end
        }
        return text
    }
}

/// Few bytes as they are; many as their beginning and a checksum.
func summary(of bytes: [UInt8]) -> String {
    guard bytes.count > 2048 else { return spelled(bytes) }
    let sum = bytes.withUnsafeBytes { bytes in
        var sum: UInt64 = 0xcbf2_9ce4_8422_2325
        var offset = 0
        while offset + 8 <= bytes.count {
            sum = (sum ^ bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)) &* 0x100_0000_01b3
            sum ^= sum >> 32
            offset += 8
        }
        while offset < bytes.count {
            sum = (sum ^ UInt64(bytes[offset])) &* 0x100_0000_01b3
            offset += 1
        }
        return sum
    }
    return "\(spelled(Array(bytes.prefix(32))))… \(bytes.count) bytes, sum \(String(sum, radix: 16))"
}

private func letter(for byte: UInt8) -> String {
    switch byte {
    case 0: "\\0"
    case UInt8(ascii: "\n"): "\\n"
    case UInt8(ascii: " "): "\\s"
    case UInt8(ascii: "\\"), UInt8(ascii: "("), UInt8(ascii: "{"): "\\" + String(Unicode.Scalar(byte))
    case 0x21..<0x7f: String(Unicode.Scalar(byte))
    default: "\\x" + String(byte >> 4, radix: 16) + String(byte & 15, radix: 16)
    }
}
