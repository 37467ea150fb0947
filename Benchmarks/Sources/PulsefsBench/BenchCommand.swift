import ArgumentParser
import SystemPackage

/// Measures pulsefs from outside, as its users meet it.
@main
struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pulsefs-bench",
        abstract: "Measures pulsefs beside plain directories and other FUSE file systems, in one run.",
        subcommands: [
            TouchCommand.self, TreeCommand.self, RequestsCommand.self, TableCommand.self, SurviveCommand.self,
            RenderCommand.self, ChildCommand.self,
        ]
    )
}

/// `pulsefs-bench render`: shows a kept report.
struct RenderCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "render",
        abstract: "Shows a report that was kept with --save: as Markdown, as an SVG, or within a document."
    )

    @Argument(help: "A report that another subcommand has kept with --save.")
    var report: String
    @Option(help: ArgumentHelp("Also draw the report as an SVG.", valueName: "file"))
    var svg: String?
    @Option(
        help: ArgumentHelp(
            "Also put the Markdown into this file, between its lines '<!-- NAME -->' and '<!-- /NAME -->'.",
            valueName: "file#name"))
    var docs: DocumentPart?

    func run() throws {
        let report = try Report(json: try readFile(report))
        if let svg { try writeFile(svg, BarChart(report).svg.utf8) }
        if let docs {
            guard let replaced = docs.replaced(in: try readText(docs.file), with: report.markdown) else {
                throw BenchFailure("\(docs.file) has no lines '\(docs.opening)' and '\(docs.closing)'")
            }
            try writeFile(docs.file, replaced.utf8)
        }
        print(report.markdown)
    }
}

/// A named part of a Markdown file, between two comments.
struct DocumentPart: ExpressibleByArgument {
    let file: String
    let name: String

    init?(argument: String) {
        let parts = argument.split(separator: "#", omittingEmptySubsequences: false)
        guard parts.count == 2, !parts[0].isEmpty, !parts[1].isEmpty else { return nil }
        (file, name) = (String(parts[0]), String(parts[1]))
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

/// The reason why a benchmark ends early, as text for the user.
struct BenchFailure: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) {
        self.description = description
    }

    /// A failed system call: the attempt with its path, and the text of the error.
    init(_ attempt: String, _ error: any Error) {
        description = "\(attempt): \(error)"
    }
}

/// Prints to standard error.
func warn(_ message: String) {
    _ = try? FileDescriptor.standardError.writeAll("pulsefs-bench: \(message)\n".utf8)
}

func warnIfDebugBuild() {
    #if DEBUG
        warn("this is a debug build; measure with a release build")
    #endif
}
