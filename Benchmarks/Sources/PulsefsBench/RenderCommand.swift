import ArgumentParser

/// `pulsefs-bench render`: shows a kept report.
struct RenderCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "render",
        abstract: "Shows a report that was kept as JSON: as Markdown, as an SVG, or within a document."
    )

    @Argument(help: "A report that another subcommand has printed with --json or kept with --save.")
    var report: String
    @OptionGroup var files: ReportFiles

    func run() throws {
        let report = try Report(json: try readFile(report))
        try files.write(report)
        print(report.markdown)
    }
}
