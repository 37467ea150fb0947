import ArgumentParser
import FoundationEssentials

/// `pulsefs-bench render`: a kept report once more.
struct RenderCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "render",
        abstract: "Shows a report that was kept as JSON: as Markdown, as a picture, or within a document."
    )

    @Argument(help: "What 'tree', 'touch' or 'table' has printed with --json, or kept with --save.")
    var report: String
    @OptionGroup var files: ReportFiles

    func run() throws {
        let json = try BenchFile.read(report)
        struct Named: Decodable { let schema: String }
        switch try JSONDecoder().decode(Named.self, from: Data(json)).schema {
        case TreeReport.schemaName: try show(try TreeReport(json: json))
        case TouchReport.schemaName: try show(try TouchReport(json: json))
        case TableReport.schemaName: try show(try TableReport(json: json))
        case let other: throw BenchFailure("\(report) is a '\(other)', which this version cannot show")
        }
    }

    private func show(_ report: some BenchReport) throws {
        try files.write(report)
        print(report.markdown)
    }
}
