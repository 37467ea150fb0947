import ArgumentParser
import FoundationEssentials

/// The result of a benchmark: text and tables; it is kept as JSON and shown as Markdown and as an SVG.
///
/// `schema` names the JSON shape. A key may be added; a changed or removed key needs a new schema name.
struct Report: Codable {
    static let schemaName = "pulsefs-bench/report/2"

    var schema = schemaName
    let title: String
    let machine: Machine
    let noise: Noise
    /// Lines above the first section.
    let introduction: [String]
    let sections: [Section]
    /// The label of the chart's axis, and the value at which its bars begin.
    let axis: String
    var origin: Double?
    /// Steps without a figure, with the reason.
    var failures: [String] = []

    /// A paragraph and a table.
    struct Section: Codable {
        var text: String?
        var table: Table?
    }

    struct Table: Codable {
        let columns: [String]
        let rows: [Row]
        /// The columns with figures for the chart.
        var chartColumns: [Int] = []
        /// Whether the chart groups the bars by column instead of by row, and what it appends to the column's name.
        var chartsByColumn = false
        var chartSuffix = ""
    }

    struct Row: Codable {
        let label: String
        /// One for each column.
        let cells: [Cell]

        init(_ label: String, _ cells: [Cell]) {
            self.label = label
            self.cells = cells
        }
    }

    /// One figure, with the number behind its text.
    struct Cell: Codable {
        let text: String
        var value: Double?
        /// The figures of which it is the median, mostly one for each round, in the order of the rounds.
        var samples: [Double]?

        static func text(_ text: String) -> Cell { Cell(text: text) }
        static func count(_ count: Int) -> Cell { Cell(text: "\(count)", value: Double(count)) }
        static func percent(_ share: Double?) -> Cell {
            Cell(text: share.map { PulsefsBench.percent($0) } ?? "", value: share)
        }

        /// Empty for nil.
        static func number(_ value: Double?, samples: [Double]? = nil) -> Cell {
            Cell(text: value.map { PulsefsBench.number($0) } ?? "", value: value, samples: samples)
        }
    }

    var json: String {
        get throws {
            let encoder = JSONEncoder()
            encoder.keyEncodingStrategy = .convertToSnakeCase
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
            return String(decoding: try encoder.encode(self), as: UTF8.self)
        }
    }

    var markdown: String {
        let figures = sections.first?.table?.rows.flatMap(\.cells).compactMap(\.samples) ?? []
        var blocks = [machine.line, noise.line(spreads: figures.compactMap { Percentiles($0)?.spread })]
        blocks += introduction.isEmpty ? [] : [introduction.joined(separator: "\n")]
        for section in sections {
            blocks += [section.text].compactMap(\.self)
            if let table = section.table {
                let rows = table.rows.map { [$0.label] + $0.cells.map(\.text) }
                blocks.append(markdownTable([""] + table.columns, rows).joined(separator: "\n"))
            }
        }
        if !failures.isEmpty { blocks += ["Failed:", failures.map { "- \($0)" }.joined(separator: "\n")] }
        return blocks.joined(separator: "\n\n")
    }
}

extension Report {
    init(json: [UInt8]) throws {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        self = try decoder.decode(Self.self, from: Data(json))
        guard schema == Self.schemaName else { throw BenchFailure("'\(schema)' is not '\(Self.schemaName)'") }
    }
}

/// The options of a measuring subcommand that say where its report goes.
struct ReportOutput: ParsableArguments {
    @Option(help: ArgumentHelp("Also keep the report as JSON, for 'pulsefs-bench render'.", valueName: "file"))
    var save: String?

    /// Writes the report; then, if a step has failed, ends the program with status 1.
    func write(_ report: Report) throws {
        if let save { try writeFile(save, (try report.json + "\n").utf8) }
        print(report.markdown)
        for failure in report.failures { warn(failure) }
        if !report.failures.isEmpty { throw ExitCode.failure }
    }
}

/// Three significant digits; from 100 up, no decimals.
func number(_ value: Double) -> String {
    decimal(value, digits: value >= 100 ? 0 : value >= 10 ? 1 : 2)
}

func percent(_ share: Double, digits: Int = 0) -> String { "\(decimal(share * 100, digits: digits)) %" }

/// A number with a fixed count of decimals (FoundationEssentials has no such format).
func decimal(_ value: Double, digits: Int) -> String {
    guard value.isFinite else { return "\(value)" }
    if value < 0 { return "-" + decimal(-value, digits: digits) }
    let scale = (0..<digits).reduce(1) { product, _ in product * 10 }
    let scaled = Int((value * Double(scale)).rounded())
    let fraction = String(scaled % scale)
    guard digits > 0 else { return "\(scaled)" }
    return "\(scaled / scale)." + String(repeating: "0", count: digits - fraction.count) + fraction
}

/// The lines of a Markdown table with padded columns; the first column is aligned left, the others right.
func markdownTable(_ head: [String], _ rows: [[String]]) -> [String] {
    let widths = head.indices.map { column in max(2, ([head] + rows).map { $0[column].count }.max() ?? 0) }
    func line(_ cells: [String]) -> String {
        let padded = zip(cells, widths).enumerated().map { column, cell in
            let padding = String(repeating: " ", count: cell.1 - cell.0.count)
            return column == 0 ? cell.0 + padding : padding + cell.0
        }
        return "| " + padded.joined(separator: " | ") + " |"
    }
    let rule = widths.enumerated().map { String(repeating: "-", count: $1 - 1) + ($0 == 0 ? "-" : ":") }
    return [line(head), "| " + rule.joined(separator: " | ") + " |"] + rows.map(line)
}
