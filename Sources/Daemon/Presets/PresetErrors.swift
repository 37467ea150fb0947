/// All that is wrong with the text of a preset, in the order of the text.
package struct PresetErrors: Error {
    package struct Item: Hashable, Sendable {
        /// From 1.
        package let line: Int
        /// In characters (Unicode scalars), from 1.
        package let column: Int
        /// One sentence.
        package let message: String

        /// As in `3:15: A signal needs a path`.
        package var description: String { "\(line):\(column): \(message)" }
    }

    /// Not empty; at most `maximumCount`.
    package let items: [Item]
    /// How many more there are.
    package let omitted: Int

    package static let maximumCount = 100

    /// - Parameters:
    ///   - found: Sentences with the offsets of the bytes that they are about; not empty.
    ///   - text: The text with these bytes.
    init(_ found: [(offset: Int, message: String)], in text: [UInt8]) {
        let sorted = found.sorted { $0.offset < $1.offset }
        omitted = max(0, sorted.count - Self.maximumCount)
        var (line, lineStart, position) = (1, 0, 0)
        items = sorted.prefix(Self.maximumCount).map { offset, message in
            while position < offset {
                if text[position] == UInt8(ascii: "\n") { (line, lineStart) = (line + 1, position + 1) }
                position += 1
            }
            let characters = text[lineStart..<offset].count { $0 & 0xC0 != 0x80 }
            return Item(line: line, column: characters + 1, message: message)
        }
    }

    /// One line for each, as compilers print them.
    ///
    ///     FILE:3:15: A signal needs a path.
    package func lines(for file: String) -> [String] {
        items.map { "\(file):\($0.description)" } + (omitted > 0 ? ["\(file): \(omitted) more errors."] : [])
    }
}
