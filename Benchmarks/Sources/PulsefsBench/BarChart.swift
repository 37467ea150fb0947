import Glibc

/// A report's figures as groups of horizontal bars on a logarithmic axis, drawn as a self-contained SVG.
///
/// A thin line on a bar shows the lowest and the highest round. The SVG has light and dark colours, chosen by the reader's
/// system, and no scripts.
struct BarChart {
    let title: String
    let notes: [String]
    let axis: String
    let origin: Double?
    /// The names of the bars in each group.
    private(set) var series: [String] = []
    private(set) var groups: [(label: String, bars: [Report.Cell])] = []

    init(_ report: Report) {
        title = report.title
        notes = [report.machine.line, "medians; thin lines: lowest and highest round"]
        axis = report.axis
        origin = report.origin
        for table in report.sections.compactMap(\.table) where !table.chartColumns.isEmpty {
            if table.chartsByColumn {
                // Rows without samples are ratios.
                let rows = table.rows.filter { $0.cells[table.chartColumns[0]].samples != nil }
                series = rows.map(\.label)
                groups += table.chartColumns.map { column in
                    (table.columns[column] + table.chartSuffix, rows.map { $0.cells[column] })
                }
            } else {
                series = table.chartColumns.map { table.columns[$0] }
                groups += table.rows.map { row in (row.label, table.chartColumns.map { row.cells[$0] }) }
            }
        }
    }

    private static let (left, right, barHeight, barPitch, groupGap) = (150.0, 820.0, 10.0, 12.0, 10.0)

    var svg: String {
        let values = groups.flatMap(\.bars).flatMap { $0.samples ?? [$0.value].compactMap(\.self) }
        let scale = LogScale(values: values + [origin].compactMap(\.self), range: Self.left...Self.right)
        let start = origin.map(scale.position) ?? Self.left
        let top = 76 + 16 * Double(notes.count)
        let groupHeight = Double(series.count) * Self.barPitch + Self.groupGap
        let bottom = top + Double(groups.count) * groupHeight + Self.groupGap
        var lines = [
            """
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 880 \(coordinate(bottom + 44))" \
            font-family="system-ui, sans-serif" font-size="12" role="img" aria-label="\(escaped(title))">
            """,
            "<title>\(escaped(title))</title>", style,
            #"<rect class="background" width="100%" height="100%" rx="6"/>"#, text(title, 16, 26, #"class="title""#),
        ]
        lines += notes.enumerated().map { text($1, 16, 44 + 16 * Double($0), #"class="note""#) }
        var x = Self.left
        for (index, name) in series.enumerated() {
            lines += [bar(index, x, top - 32, width: 12, height: 12), text(name, x + 18, top - 22)]
            x += 34 + 7 * Double(name.count)
        }
        let centered = #"class="note" text-anchor="middle""#
        for tick in scale.ticks {
            let x = scale.position(tick)
            lines.append(line(tick == origin ? "origin" : "grid", x, top, x, bottom))
            let digits = tick >= 1 ? 0 : tick >= 0.1 ? 1 : tick >= 0.01 ? 2 : 3
            lines.append(text(decimal(tick, digits: digits), x, bottom + 16, centered))
        }
        lines.append(text(axis, (Self.left + Self.right) / 2, bottom + 34, centered))
        for (index, group) in groups.enumerated() {
            let y = top + Self.groupGap + Double(index) * groupHeight
            lines.append(
                text(group.label, Self.left - 10, y + (groupHeight - Self.groupGap) / 2 + 4, #"text-anchor="end""#))
            for (series, cell) in group.bars.enumerated() {
                let y = y + Double(series) * Self.barPitch
                guard let value = cell.value else {
                    lines.append(text(cell.text, start + 4, y + 8, #"class="note" font-size="10""#))
                    continue
                }
                let (end, range) = (scale.position(value), Percentiles(cell.samples ?? [value]))
                let (low, high) = (scale.position(range?[0] ?? value), scale.position(range?[1] ?? value))
                let name = "<title>\(escaped("\(self.series[series]), \(group.label): \(cell.text)"))</title>"
                let width = max(abs(end - start), 1)
                lines.append(bar(series, min(start, end), y, width: width, height: Self.barHeight, name))
                lines.append(line("range", low, y + Self.barHeight / 2, high, y + Self.barHeight / 2))
                lines.append(text(cell.text, max(start, end, high) + 4, y + 8, #"font-size="10""#))
            }
        }
        return (lines + ["</svg>", ""]).joined(separator: "\n")
    }

    /// Colours that colour-blind people can tell apart, lighter on the dark background.
    private var style: String {
        let colours = [
            ["#0072b2", "#56a8e8"], ["#d55e00", "#f0883e"], ["#8a8f98", "#a3a9b3"], ["#009e73", "#3fc79a"],
            ["#b0588f", "#d98ec0"], ["#b58900", "#e3c04b"],
        ]
        func fills(_ shade: Int) -> String {
            series.indices.map { ".s\($0) { fill: \(colours[$0 % colours.count][shade]); }" }.joined(separator: " ")
        }
        return """
            <style>
            .background { fill: #ffffff; stroke: #d0d7de; } text { fill: #1f2328; }
            .note { fill: #59636e; font-size: 11px; } .title { font-size: 15px; font-weight: 600; }
            .grid { stroke: #d8dee4; } .origin { stroke: #59636e; }
            .range { stroke: #1f2328; stroke-opacity: 0.55; } \(fills(0))
            @media (prefers-color-scheme: dark) {
            .background { fill: #0d1117; stroke: #30363d; } text { fill: #e6edf3; } .note { fill: #9198a1; }
            .grid { stroke: #2a313a; } .origin { stroke: #9198a1; } .range { stroke: #e6edf3; } \(fills(1))
            }
            </style>
            """
    }
}

/// Maps values to positions on a logarithmic axis.
struct LogScale {
    /// 1, 2 and 5 of each power of ten around the values; only powers of ten if these are more than twelve.
    let ticks: [Double]
    let range: ClosedRange<Double>

    init(values: [Double], range: ClosedRange<Double>) {
        let positive = values.filter { $0 > 0 && $0.isFinite }
        let least = positive.min() ?? 1
        let greatest = max(positive.max() ?? 10, least * 2)
        let decades = Int(log10(least).rounded(.down))...Int(log10(greatest).rounded(.up))
        let candidates = decades.flatMap { decade in [1.0, 2, 5].map { $0 * pow(10, Double(decade)) } }
        let first = candidates.lastIndex { $0 <= least } ?? 0
        let last = candidates.firstIndex { $0 >= greatest } ?? candidates.count - 1
        let steps = Array(candidates[first...last])
        ticks = steps.count <= 12 ? steps : decades.map { pow(10, Double($0)) }
        self.range = range
    }

    func position(_ value: Double) -> Double {
        let (low, high) = (log10(ticks[0]), log10(ticks[ticks.count - 1]))
        let share = (log10(max(value, ticks[0])) - low) / (high - low)
        return range.lowerBound + min(max(share, 0), 1) * (range.upperBound - range.lowerBound)
    }
}

private func text(_ content: String, _ x: Double, _ y: Double, _ attributes: String = "") -> String {
    #"<text x="\#(coordinate(x))" y="\#(coordinate(y))" \#(attributes)>\#(escaped(content))</text>"#
}

private func bar(
    _ series: Int, _ x: Double, _ y: Double, width: Double, height: Double, _ content: String = ""
) -> String {
    #"<rect class="bar s\#(series)" x="\#(coordinate(x))" y="\#(coordinate(y))" "#
        + #"width="\#(coordinate(width))" height="\#(coordinate(height))">\#(content)</rect>"#
}

private func line(_ kind: String, _ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double) -> String {
    let (x1, y1, x2, y2) = (coordinate(x1), coordinate(y1), coordinate(x2), coordinate(y2))
    return #"<line class="\#(kind)" x1="\#(x1)" x2="\#(x2)" y1="\#(y1)" y2="\#(y2)"/>"#
}

private func coordinate(_ value: Double) -> String { decimal(value, digits: 1) }

private func escaped(_ text: String) -> String {
    text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
        .replacing("\"", with: "&quot;")
}
