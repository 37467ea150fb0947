/// Makes untrusted text safe for a terminal.
///
/// Documents, program names and host names are hostile input: an escape sequence could retitle the window, move the
/// cursor or fake a line. Characters of zero or two columns break a table if counted as one.
enum TerminalText {
    /// The text in one line, without control characters.
    ///
    /// Control characters become their pictures (`␛`) or `�`. Format characters, such as changes of direction, are removed.
    /// At most two combining marks per character are kept.
    static func printable(_ text: String) -> String {
        var printable = String.UnicodeScalarView()
        var marks = 0
        for scalar in text.unicodeScalars {
            switch scalar.value {
            case 0..<0x20: printable.append(Unicode.Scalar(0x2400 + scalar.value) ?? "\u{fffd}")
            case 0x7f: printable.append("\u{2421}")
            case 0x20..<0x7f: printable.append(scalar)
            default:
                switch scalar.properties.generalCategory {
                case .control, .lineSeparator, .paragraphSeparator, .unassigned, .privateUse, .surrogate:
                    printable.append("\u{fffd}")
                case .format: continue
                case .nonspacingMark, .enclosingMark, .spacingMark:
                    // Variation selectors change widths, and terminals disagree how.
                    guard marks < 2, !printable.isEmpty, !scalar.properties.isVariationSelector else { continue }
                    marks += 1
                    printable.append(scalar)
                    continue
                case .spaceSeparator: printable.append(" ")
                default: printable.append(scalar)
                }
            }
            marks = 0
        }
        return String(printable)
    }

    /// The columns of printable text.
    static func width(_ text: String) -> Int {
        text.unicodeScalars.reduce(0) { $0 + width($1) }
    }

    private static func width(_ scalar: Unicode.Scalar) -> Int {
        if scalar.value < 0x300 { return 1 }
        if [.nonspacingMark, .enclosingMark].contains(scalar.properties.generalCategory) { return 0 }
        // Korean vowels and final consonants join the syllable before them.
        if (0x1160...0x11ff).contains(scalar.value) { return 0 }
        return wide.contains { $0.contains(scalar.value) } || scalar.properties.isEmojiPresentation ? 2 : 1
    }

    /// Characters of two columns (UAX #11: W and F).
    private static let wide: [ClosedRange<UInt32>] = [
        0x1100...0x115f, 0x2e80...0x303e, 0x3041...0x33ff, 0x3400...0x4dbf, 0x4e00...0x9fff, 0xa000...0xa4cf,
        0xa960...0xa97f, 0xac00...0xd7a3, 0xf900...0xfaff, 0xfe10...0xfe19, 0xfe30...0xfe6f, 0xff00...0xff60,
        0xffe0...0xffe6, 0x16fe0...0x18dff, 0x1aff0...0x1b2ff, 0x1f200...0x1f2ff, 0x1f300...0x1f64f,
        0x1f680...0x1f6ff, 0x1f900...0x1f9ff, 0x1fa70...0x1faff, 0x20000...0x3fffd,
    ]

    /// The side of a text that is kept when it is cut.
    enum Side {
        case beginning
        case end
    }

    /// Printable text in exactly so many columns: cut with `…`, or padded with spaces.
    static func fitted(_ text: String, to columns: Int, keeping side: Side = .beginning) -> String {
        let cut = cut(text, to: columns, keeping: side)
        return cut + String(repeating: " ", count: columns - width(cut))
    }

    /// Printable text in at most so many columns, cut with `…`.
    static func cut(_ text: String, to columns: Int, keeping side: Side = .beginning) -> String {
        guard width(text) > columns else { return text }
        guard columns > 0 else { return "" }
        // One column is for the `…`.
        var room = columns - 1
        func fits(_ scalar: Unicode.Scalar) -> Bool {
            room -= width(scalar)
            return room >= 0
        }
        let scalars = text.unicodeScalars
        switch side {
        case .beginning: return String(scalars.prefix(while: fits)) + "…"
        case .end:
            // Without a combining mark that has lost its letter.
            let kept = scalars.reversed().prefix(while: fits).reversed().drop { width($0) == 0 }
            return kept.reduce(into: "…") { $0.unicodeScalars.append($1) }
        }
    }
}
