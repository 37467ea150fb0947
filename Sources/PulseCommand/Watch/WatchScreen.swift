import Liveness

/// The screen of `pulsefs watch`: a value that computes its lines.
struct WatchScreen: Sendable {
    /// A runtime, and when it was read.
    struct Row: Sendable {
        var runtime: RuntimeFile
        var readAt: ContinuousClock.Instant
    }

    struct Size: Hashable, Sendable {
        var columns: Int
        var rows: Int
    }

    enum Style: Sendable {
        case plain
        case bold
        case faint
        case good
        case warning
        case bad
        case heading
    }

    /// A piece of a line; printable text only.
    struct Span: Sendable {
        var text: String
        var style: Style
    }

    typealias Line = [Span]

    /// The town root.
    var town: String
    /// This host, which is not shown.
    var host: String
    var rows: [Row] = []
    var mirror: MirrorStatus?
    /// A problem of the whole town.
    ///
    /// The rows are then out of date.
    var trouble: String?

    // MARK: Lines

    /// At most `size.rows` lines of at most `size.columns` columns.
    ///
    /// - Parameter first: The first row shown, if not all fit.
    func lines(_ size: Size, at now: ContinuousClock.Instant, from first: Int = 0) -> [Line] {
        let sorted = rows.sorted { Self.comesFirst($0.runtime, $1.runtime) }
        var lines = [heading(size.columns), subheading(size.columns)]
        let columns = columns(of: sorted, at: now, width: size.columns)
        lines.append([Span(text: columns.heading(size.columns), style: .heading)])
        if sorted.isEmpty {
            let words = trouble == nil ? "no runtimes yet" : ""
            lines.append([Span(text: TerminalText.cut(words, to: size.columns), style: .faint)])
        }
        let shown = Self.shown(of: sorted.count, room: size.rows - lines.count, from: first)
        lines += sorted[shown].map { line($0, columns, at: now) }
        let more = sorted.count - shown.count
        if more > 0 {
            lines.append([Span(text: TerminalText.cut("… and \(more) more", to: size.columns), style: .faint)])
        }
        return Array(lines.prefix(max(0, size.rows)))
    }

    /// The rows that fit, with one line left for the number of the others.
    private static func shown(of count: Int, room: Int, from first: Int) -> Range<Int> {
        guard count > room else { return 0..<count }
        let room = max(0, room - 1)
        let start = max(0, min(first, count - room))
        return start..<start + room
    }

    /// The last value of `first` for which the screen is full.
    func lastFirst(_ size: Size) -> Int {
        max(0, rows.count - max(0, size.rows - 4))
    }

    /// Problems first, then by name, so that lines stay in place.
    private static func comesFirst(_ one: RuntimeFile, _ other: RuntimeFile) -> Bool {
        (rank(one), one.id) < (rank(other), other.id)
    }

    private static func rank(_ runtime: RuntimeFile) -> Int {
        switch (runtime.state, runtime.reportedState) {
        case ("exited", _): 0
        case ("expired", _): 1
        case ("alive", "stuck"): 2
        case ("alive", _): 4
        default: 3
        }
    }

    private func heading(_ width: Int) -> Line {
        var counts: [(state: String, count: Int)] = []
        for state in ["alive", "expired", "exited"] {
            let count = rows.count { $0.runtime.state == state }
            if count > 0 || state == "alive" { counts.append((state, count)) }
        }
        let tally = TerminalText.cut(counts.map { "\($0.count) \($0.state)" }.joined(separator: ", "), to: width)
        let room = width - TerminalText.width(tally) - 2
        guard room > 0 else { return [Span(text: tally, style: .bold)] }
        return [
            Span(text: TerminalText.fitted(TerminalText.printable(town), to: room, keeping: .end), style: .bold),
            Span(text: "  " + tally, style: .plain),
        ]
    }

    private func subheading(_ width: Int) -> Line {
        if let trouble {
            return [Span(text: TerminalText.cut(TerminalText.printable(trouble), to: width), style: .bad)]
        }
        guard let mirror else { return [Span(text: TerminalText.cut("no mirror", to: width), style: .faint)] }
        let link = mirror.heartbeats.state == .up ? mirror.records : mirror.heartbeats
        let words = "mirror \(mirror.server): \(link.state.rawValue)\(link.reason.map { ", \($0)" } ?? "")"
        let style: Style =
            switch link.state {
            case .up: .plain
            case .connecting: .warning
            case .down, .refused: .bad
            }
        return [Span(text: TerminalText.cut(TerminalText.printable(words), to: width), style: style)]
    }

    // MARK: Columns

    private enum Column: Int, CaseIterable {
        case state, id, age, left, shows, command, evidence

        var title: String {
            switch self {
            case .state: "STATE"
            case .id: "RUNTIME"
            case .age: "AGE"
            case .left: "LEFT"
            case .shows: "SAYS"
            case .command: "LAST COMMAND"
            case .evidence: "EVIDENCE"
            }
        }

        var isNumber: Bool { self == .age || self == .left }

        /// A narrower column is left out.
        ///
        /// Numbers and states are never cut.
        func leastWidth(on width: Int) -> Int {
            switch self {
            case .state: 7
            case .id: max(12, width * 3 / 10)
            case .age, .left: 6
            case .shows: 7
            case .command: 12
            case .evidence: 16
            }
        }
    }

    /// The columns that fit, and their widths.
    private struct Columns {
        var widths: [(column: Column, width: Int)] = []

        func line(_ text: (Column) -> String) -> [(column: Column, text: String)] {
            widths.enumerated().map { index, entry in
                let text = text(entry.column)
                let gap = index == 0 ? "" : "  "
                if entry.column.isNumber {
                    let padding = String(repeating: " ", count: max(0, entry.width - TerminalText.width(text)))
                    return (entry.column, gap + padding + TerminalText.cut(text, to: entry.width))
                }
                // The last component of an id tells most.
                let side: TerminalText.Side = entry.column == .id ? .end : .beginning
                return (entry.column, gap + TerminalText.fitted(text, to: entry.width, keeping: side))
            }
        }

        func heading(_ width: Int) -> String {
            TerminalText.cut(line(\.title).map(\.text).joined(), to: width)
        }
    }

    /// As many columns as fit, from the left.
    ///
    /// Columns that would be cut share the remaining width.
    private func columns(of rows: [Row], at now: ContinuousClock.Instant, width: Int) -> Columns {
        var columns = Columns()
        var wanted: [Int] = []
        var used = -2
        for column in Column.allCases {
            let widest = rows.reduce(column.title.count) { max($0, TerminalText.width(text(column, of: $1, at: now))) }
            var least = column.leastWidth(on: width)
            if !column.isNumber, column != .state { least = min(least, widest) }
            guard used + 2 + least <= width else { break }
            used += 2 + least
            columns.widths.append((column, least))
            wanted.append(max(least, widest))
        }
        for index in columns.widths.indices {
            let more = min(wanted[index] - columns.widths[index].width, width - used)
            columns.widths[index].width += more
            used += more
        }
        return columns
    }

    /// A cell: printable, not cut.
    private func text(_ column: Column, of row: Row, at now: ContinuousClock.Instant) -> String {
        let runtime = row.runtime
        let passed = max(.zero, now - row.readAt) / .seconds(1)
        switch column {
        case .state: return TerminalText.printable(runtime.state)
        case .id: return TerminalText.printable(runtime.id)
        case .age: return runtime.ageSeconds.map { describe(seconds: $0 + passed) } ?? ""
        case .left:
            guard runtime.isAlive, let left = runtime.ttlLeftSeconds else { return "-" }
            return describe(seconds: left - passed)
        case .shows: return TerminalText.printable(runtime.reportedState ?? "")
        case .command: return TerminalText.printable(runtime.lastCommand ?? "")
        case .evidence: return TerminalText.printable(runtime.evidence?.words(on: host) ?? "")
        }
    }

    private func line(_ row: Row, _ columns: Columns, at now: ContinuousClock.Instant) -> Line {
        columns.line { text($0, of: row, at: now) }.map { column, text in
            Span(text: text, style: trouble == nil ? style(column, of: row.runtime) : .faint)
        }
    }

    private func style(_ column: Column, of runtime: RuntimeFile) -> Style {
        switch column {
        case .state:
            switch runtime.state {
            case "alive": .good
            case "expired": .warning
            default: .bad
            }
        case .shows where runtime.reportedState == "stuck": .bad
        case .id: .bold
        case .evidence: .faint
        default: .plain
        }
    }
}

extension WatchScreen.Line {
    /// Without styles and trailing spaces.
    var text: String {
        var text = map(\.text).joined()[...]
        while text.last == " " { text.removeLast() }
        return String(text)
    }
}
