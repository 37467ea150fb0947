import Liveness
import TownFS

/// The screen of `pulsefs watch`: a value that computes its lines.
struct WatchScreen: Sendable {
    /// A runtime, and when it was read.
    struct Row: Sendable {
        var runtime: RuntimeReport
        var readAt: ContinuousClock.Instant
    }

    struct Size: Hashable, Sendable {
        var columns: Int
        var rows: Int
    }

    /// Parameters of SGR (ECMA-48).
    enum Style: String, Sendable {
        case plain = ""
        case bold = "1"
        case faint = "2"
        case good = "32"
        case warning = "33"
        case bad = "1;31"
        case heading = "7"
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
        func cut(_ text: String, _ style: Style) -> Line {
            [Span(text: TerminalText.cut(text, to: size.columns), style: style)]
        }
        // Problems first, then by name, so that lines stay in place.
        let sorted = rows.sorted { one, other in
            let (first, second) = (Self.rank(one.runtime), Self.rank(other.runtime))
            return first != second ? first < second : one.runtime.id.hasBytes(before: other.runtime.id)
        }
        let columns = columns(of: sorted, at: now, width: size.columns)
        let titles = columns.map { cell($0.column, $0.column.rawValue, $0.width) }.joined(separator: "  ")
        let second = subheading
        var lines = [
            heading(size.columns), cut(TerminalText.printable(second.text), second.style), cut(titles, .heading),
        ]
        if sorted.isEmpty { lines.append(cut(trouble == nil ? "no runtimes yet" : "", .faint)) }
        let shown = Self.shown(of: sorted.count, room: size.rows - lines.count, from: first)
        lines += sorted[shown].map { row in
            columns.enumerated().map { index, entry in
                let text = cell(entry.column, self.text(entry.column, of: row, at: now), entry.width)
                return Span(
                    text: (index == 0 ? "" : "  ") + text,
                    style: trouble == nil ? style(entry.column, of: row.runtime) : .faint)
            }
        }
        let more = sorted.count - shown.count
        if more > 0 { lines.append(cut("… and \(more) more", .faint)) }
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

    private static func rank(_ runtime: RuntimeReport) -> Int {
        switch (runtime.state, runtime.reportedState) {
        case ("exited", _): 0
        case ("expired", _): 1
        case ("alive", "stuck"): 2
        case ("alive", _): 4
        default: 3
        }
    }

    private func heading(_ width: Int) -> Line {
        let counts = ["alive", "expired", "exited", "never"].map { state in
            (state, rows.count { $0.runtime.state == state })
        }
        .filter { $0 == "alive" || $1 > 0 }
        let tally = TerminalText.cut(counts.map { "\($1) \($0)" }.joined(separator: ", "), to: width)
        let room = width - TerminalText.width(tally) - 2
        guard room > 0 else { return [Span(text: tally, style: .bold)] }
        return [
            Span(text: TerminalText.fitted(TerminalText.printable(town), to: room, keeping: .end), style: .bold),
            Span(text: "  " + tally, style: .plain),
        ]
    }

    /// The problem of the town, or the state of the mirror.
    private var subheading: (text: String, style: Style) {
        if let trouble { return (trouble, .bad) }
        guard let mirror else { return ("no mirror", .faint) }
        let link = mirror.heartbeats.state == .up ? mirror.records : mirror.heartbeats
        let style: Style =
            switch link.state {
            case .up: .plain
            case .connecting: .warning
            case .down, .refused: .bad
            }
        return ("mirror \(mirror.server): \(link.state.rawValue)\(link.reason.map { ", \($0)" } ?? "")", style)
    }

    // MARK: Columns

    /// A column, by its title.
    private enum Column: String, CaseIterable {
        case state = "STATE"
        case id = "RUNTIME"
        case age = "AGE"
        case left = "LEFT"
        case reported = "SAYS"
        case command = "LAST COMMAND"
        case evidence = "EVIDENCE"
        case beat = "BEAT"
        case work = "WORK"
        case background = "BACKGR"
        case cpu = "CPU"

        /// Shown if nothing else is cut for them.
        static let clocks: [Column] = [.beat, .work, .background, .cpu]

        var isNumber: Bool {
            switch self {
            case .age, .left, .beat, .work, .background, .cpu: true
            case .state, .id, .reported, .command, .evidence: false
            }
        }

        /// A narrower column is left out.
        ///
        /// Numbers and states are never cut.
        func leastWidth(on width: Int) -> Int {
            switch self {
            case .state, .reported: 7
            case .id: max(12, width * 3 / 10)
            case .age, .left, .beat, .work, .background, .cpu: 6
            case .command: 12
            case .evidence: 16
            }
        }
    }

    /// The columns that fit, from the left, and their widths.
    ///
    /// Columns that would be cut share the remaining width.
    private func columns(
        of rows: [Row], at now: ContinuousClock.Instant, width: Int
    ) -> [(column: Column, width: Int)] {
        var columns: [(column: Column, width: Int)] = []
        var wanted: [Int] = []
        var used = -2
        for column in Column.allCases where !Column.clocks.contains(column) {
            let title = column.rawValue
            let widest = rows.reduce(title.count) { max($0, TerminalText.width(text(column, of: $1, at: now))) }
            var least = column.leastWidth(on: width)
            if !column.isNumber, column != .state { least = min(least, widest) }
            guard used + 2 + least <= width else { break }
            used += 2 + least
            columns.append((column, least))
            wanted.append(max(least, widest))
        }
        for index in columns.indices {
            let more = min(wanted[index] - columns[index].width, width - used)
            columns[index].width += more
            used += more
        }
        let clocks = Column.clocks.map { ($0, $0.leastWidth(on: width)) }
        if used + clocks.reduce(0, { $0 + 2 + $1.1 }) <= width { columns += clocks }
        return columns
    }

    /// A text in the width of its column: numbers on the right.
    private func cell(_ column: Column, _ text: String, _ width: Int) -> String {
        if column.isNumber {
            return String(repeating: " ", count: max(0, width - TerminalText.width(text)))
                + TerminalText.cut(text, to: width)
        }
        // The last component of an id tells most.
        return TerminalText.fitted(text, to: width, keeping: column == .id ? .end : .beginning)
    }

    /// A text for a cell: printable, not cut.
    private func text(_ column: Column, of row: Row, at now: ContinuousClock.Instant) -> String {
        let runtime = row.runtime
        let passed = max(.zero, now - row.readAt) / .seconds(1)
        func age(_ moment: RuntimeReport.Moment?) -> String {
            moment.map { describe(seconds: $0.ageSeconds + passed) } ?? "-"
        }
        switch column {
        case .state: return TerminalText.printable(runtime.state)
        case .id: return TerminalText.printable(runtime.id)
        case .age: return runtime.ageSeconds.map { describe(seconds: $0 + passed) } ?? ""
        case .left:
            guard runtime.isAlive, let left = runtime.ttlLeftSeconds else { return "-" }
            return describe(seconds: left - passed)
        case .reported: return TerminalText.printable(runtime.reportedState ?? "")
        case .command: return TerminalText.printable(runtime.lastCommand ?? "")
        case .beat: return age(runtime.clocks?.beat)
        case .work: return age(runtime.clocks?.work)
        case .background: return age(runtime.clocks?.backgroundWork)
        case .cpu: return runtime.clocks?.cpuSeconds.map { describe(seconds: $0) } ?? "-"
        case .evidence: return TerminalText.printable(runtime.evidence?.words(on: host) ?? "")
        }
    }

    private func style(_ column: Column, of runtime: RuntimeReport) -> Style {
        switch column {
        case .state: runtime.isAlive ? .good : ["expired", "never"].contains(runtime.state) ? .warning : .bad
        case .reported where runtime.reportedState == "stuck": .bad
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
