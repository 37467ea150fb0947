import Glibc

/// Groups of horizontal bars on a logarithmic axis, as an SVG that stands by itself.
///
/// It has a background of its own, light or dark as the reader's system is set, no scripts, and whatever sans-serif font there is.
struct BarChart {
    let title: String
    /// What it was taken on, a line each.
    let notes: [String]
    /// What the axis shows.
    let axis: String
    /// Where bars begin; nil for the lower end of the axis.
    let origin: Double?
    /// The names of the bars in each group.
    let series: [String]
    let groups: [Group]

    struct Group {
        let label: String
        /// One for each of the series.
        let bars: [Bar]
    }

    enum Bar {
        /// A value, and the least and the greatest that it was made of.
        case value(Double, ClosedRange<Double>)
        case missing(String)
    }

    /// The picture.
    var svg: String {
        let scale = scale
        let axisTop = Layout.headHeight(notes: notes.count)
        let axisBottom = axisTop + groups.reduce(0) { $0 + Layout.height(of: $1) } + Layout.groupGap
        let height = axisBottom + 44
        var lines = [
            """
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(Layout.width) \(coordinate(height))" \
            font-family="system-ui, sans-serif" font-size="12" role="img" aria-label="\(escaped(title))">
            """,
            "<title>\(escaped(title))</title>", Self.style(count: series.count),
            #"<rect class="background" width="100%" height="100%" rx="6"/>"#,
            text(title, x: 16, y: 26, "class=\"title\""),
        ]
        lines += notes.enumerated().map { text($1, x: 16, y: 44 + 16 * Double($0), "class=\"note\"") }
        lines += legend(y: axisTop - 22)
        for tick in scale.ticks {
            let x = scale.x(of: tick)
            let kind = tick == origin ? "origin" : "grid"
            lines.append(
                #"<line class="\#(kind)" x1="\#(coordinate(x))" x2="\#(coordinate(x))" y1="\#(coordinate(axisTop))" y2="\#(coordinate(axisBottom))"/>"#
            )
            lines.append(text(plain(tick), x: x, y: axisBottom + 16, "class=\"note\" text-anchor=\"middle\""))
        }
        lines.append(
            text(axis, x: (Layout.left + Layout.right) / 2, y: axisBottom + 34, "class=\"note\" text-anchor=\"middle\"")
        )
        var y = axisTop + Layout.groupGap
        for group in groups {
            lines += draw(group, y: y, scale: scale)
            y += Layout.height(of: group)
        }
        return (lines + ["</svg>", ""]).joined(separator: "\n")
    }

    private func draw(_ group: Group, y: Double, scale: LogScale) -> [String] {
        let middle = y + (Layout.height(of: group) - Layout.groupGap) / 2
        var lines = [text(group.label, x: Layout.left - 10, y: middle + 4, "text-anchor=\"end\"")]
        for (index, bar) in group.bars.enumerated() {
            let top = y + Double(index) * Layout.barPitch
            let baseline = top + Layout.barHeight - 2
            switch bar {
            case .missing(let reason):
                lines.append(text(reason, x: scale.start + 4, y: baseline, "class=\"note\" font-size=\"10\""))
            case .value(let value, let range):
                let (low, high) = (scale.x(of: range.lowerBound), scale.x(of: range.upperBound))
                let (start, end) = (min(scale.start, scale.x(of: value)), max(scale.start, scale.x(of: value)))
                let name = "\(series[index]), \(group.label): \(number(value))"
                lines.append(
                    #"<rect class="bar s\#(index)" x="\#(coordinate(start))" y="\#(coordinate(top))" width="\#(coordinate(max(end - start, 1)))" height="\#(coordinate(Layout.barHeight))"><title>\#(escaped(name))</title></rect>"#
                )
                let center = coordinate(top + Layout.barHeight / 2)
                lines.append(
                    #"<line class="range" x1="\#(coordinate(low))" x2="\#(coordinate(high))" y1="\#(center)" y2="\#(center)"/>"#
                )
                lines.append(text(number(value), x: max(end, high) + 4, y: baseline, "font-size=\"10\""))
            }
        }
        return lines
    }

    private func legend(y: Double) -> [String] {
        var x = Layout.left
        return series.enumerated().flatMap { index, name in
            defer { x += 34 + 7 * Double(name.count) }
            return [
                #"<rect class="bar s\#(index)" x="\#(coordinate(x))" y="\#(coordinate(y - 10))" width="12" height="12"/>"#,
                text(name, x: x + 18, y: y, ""),
            ]
        }
    }

    private var scale: LogScale {
        let values = groups.flatMap(\.bars).flatMap { bar in
            if case .value(let value, let range) = bar {
                [value, range.lowerBound, range.upperBound]
            } else {
                [Double]()
            }
        }
        return LogScale(values: values + [origin].compactMap(\.self), origin: origin)
    }

    /// Colours that people who see few of them can tell apart, lighter ones on the dark ground.
    private static func style(count: Int) -> String {
        let colours = [
            ("#0072b2", "#56a8e8"), ("#d55e00", "#f0883e"), ("#8a8f98", "#a3a9b3"), ("#009e73", "#3fc79a"),
            ("#b0588f", "#d98ec0"), ("#b58900", "#e3c04b"),
        ]
        let pick = (0..<count).map { (index: $0, colour: colours[$0 % colours.count]) }
        return """
            <style>
            .background { fill: #ffffff; stroke: #d0d7de; } text { fill: #1f2328; } .note { fill: #59636e; font-size: 11px; }
            .title { font-size: 15px; font-weight: 600; } .grid { stroke: #d8dee4; } .origin { stroke: #59636e; }
            .range { stroke: #1f2328; stroke-opacity: 0.55; } \(pick.map { ".s\($0.index) { fill: \($0.colour.0); }" }.joined(separator: " "))
            @media (prefers-color-scheme: dark) {
            .background { fill: #0d1117; stroke: #30363d; } text { fill: #e6edf3; } .note { fill: #9198a1; } .grid { stroke: #2a313a; }
            .origin { stroke: #9198a1; } .range { stroke: #e6edf3; } \(pick.map { ".s\($0.index) { fill: \($0.colour.1); }" }.joined(separator: " "))
            }
            </style>
            """
    }
}

/// Where things are, in user units.
private enum Layout {
    static let width = 880
    static let left = 150.0
    static let right = 820.0
    static let barHeight = 10.0
    static let barPitch = 12.0
    static let groupGap = 10.0

    static func height(of group: BarChart.Group) -> Double { Double(group.bars.count) * barPitch + groupGap }
    static func headHeight(notes: Int) -> Double { 76 + 16 * Double(notes) }
}

/// Values to places on the axis.
struct LogScale {
    /// 1, 2 and 5 of each power of ten from below the least value to above the greatest; thinned to powers of ten where that is too much.
    let ticks: [Double]
    private let origin: Double?

    init(values: [Double], origin: Double?) {
        let positive = values.filter { $0 > 0 && $0.isFinite }
        let least = positive.min() ?? 1
        let greatest = max(positive.max() ?? 10, least * 2)
        let decades = Int(log10(least).rounded(.down))...Int(log10(greatest).rounded(.up))
        let candidates = decades.flatMap { decade in [1.0, 2, 5].map { $0 * pow(10, Double(decade)) } }
        let first = candidates.lastIndex { $0 <= least } ?? 0
        let last = candidates.firstIndex { $0 >= greatest } ?? candidates.count - 1
        let steps = Array(candidates[first...last])
        ticks = steps.count <= 12 ? steps : decades.map { pow(10, Double($0)) }
        self.origin = origin
    }

    func x(of value: Double) -> Double {
        let (low, high) = (log10(ticks[0]), log10(ticks[ticks.count - 1]))
        let share = (log10(max(value, ticks[0])) - low) / (high - low)
        return Layout.left + min(max(share, 0), 1) * (Layout.right - Layout.left)
    }

    /// Where bars begin.
    var start: Double { x(of: origin ?? ticks[0]) }
}

private func text(_ content: String, x: Double, y: Double, _ attributes: String) -> String {
    #"<text x="\#(coordinate(x))" y="\#(coordinate(y))" \#(attributes)>\#(escaped(content))</text>"#
}

private func coordinate(_ value: Double) -> String { decimal(value, digits: 1) }

/// A tick's number without needless digits.
private func plain(_ tick: Double) -> String {
    tick >= 1 ? "\(Int(tick.rounded()))" : decimal(tick, digits: tick >= 0.1 ? 1 : tick >= 0.01 ? 2 : 3)
}

private func escaped(_ text: String) -> String {
    text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
        .replacing("\"", with: "&quot;")
}
