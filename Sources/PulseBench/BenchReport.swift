import ArgumentParser
import FoundationEssentials
import SystemPackage

/// The result of a benchmark: kept as JSON, shown as Markdown and as a picture.
protocol BenchReport: Codable {
    static var schemaName: String { get }
    var markdown: String { get }
    var chart: BarChart { get }
}

extension TreeReport: BenchReport {
    static let schemaName = "pulsefs-bench/tree/1"
}

extension TouchReport: BenchReport {
    static let schemaName = "pulsefs-bench/touch/1"
}

extension TableReport: BenchReport {
    static let schemaName = "pulsefs-bench/table/1"
}

extension BenchReport {
    /// As `--json` prints it: keys in snake case and sorted.
    var json: String {
        get throws {
            let encoder = JSONEncoder()
            encoder.keyEncodingStrategy = .convertToSnakeCase
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
            return String(decoding: try encoder.encode(self), as: UTF8.self)
        }
    }

    /// Reads what `json` has written.
    init(json: [UInt8]) throws {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        self = try decoder.decode(Self.self, from: Data(json))
    }
}

/// Where a report goes besides standard output.
struct ReportFiles: ParsableArguments {
    @Option(help: ArgumentHelp("Draw the report as an SVG, too.", valueName: "file"))
    var svg: String?
    @Option(
        help: ArgumentHelp(
            "Put the Markdown into this file, too, between its lines '<!-- NAME -->' and '<!-- /NAME -->'.",
            valueName: "file#name"))
    var docs: DocumentPart?

    func write(_ report: some BenchReport) throws {
        if let svg { try BenchFile.write(report.chart.svg, to: svg) }
        if let docs {
            let text = String(decoding: try BenchFile.read(docs.file), as: UTF8.self)
            guard let replaced = docs.replaced(in: text, with: report.markdown) else {
                throw BenchFailure("\(docs.file) has no lines '\(docs.opening)' and '\(docs.closing)'")
            }
            try BenchFile.write(replaced, to: docs.file)
        }
    }
}

/// Where the report of a run goes.
struct ReportOutput: ParsableArguments {
    @Flag(help: "Print the report as JSON.")
    var json = false
    @Option(help: ArgumentHelp("Keep the report as JSON, too, for 'pulsefs-bench render'.", valueName: "file"))
    var save: String?
    @OptionGroup var files: ReportFiles

    func write(_ report: some BenchReport) throws {
        let text = try report.json
        if let save { try BenchFile.write(text + "\n", to: save) }
        print(json ? text : report.markdown)
        try files.write(report)
    }
}

/// A named part of a Markdown file, between two comments.
struct DocumentPart: ExpressibleByArgument {
    let file: String
    let name: String

    init?(argument: String) {
        let parts = argument.split(separator: "#", omittingEmptySubsequences: false)
        guard parts.count == 2, !parts[0].isEmpty, !parts[1].isEmpty else { return nil }
        file = String(parts[0])
        name = String(parts[1])
    }

    var opening: String { "<!-- \(name) -->" }
    var closing: String { "<!-- /\(name) -->" }

    /// The text with the part replaced; nil when it has no such part.
    func replaced(in text: String, with content: String) -> String? {
        guard let start = text.firstRange(of: opening + "\n"),
            let end = text[start.upperBound...].firstRange(of: closing)
        else { return nil }
        return text[..<start.upperBound] + "\n" + content + "\n\n" + text[end.lowerBound...]
    }
}

/// Whole files, with errors that name them.
enum BenchFile {
    static func read(_ path: String) throws -> [UInt8] {
        do { return try GoFile(path: path).read() } catch { throw BenchFailure("cannot read \(path)", error) }
    }

    static func write(_ text: String, to path: String) throws {
        do { try GoFile(path: path).write(Array(text.utf8)) } catch {
            throw BenchFailure("cannot write \(path)", error)
        }
    }
}
