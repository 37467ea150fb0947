import Testing

@testable import PulsefsBench

@Suite struct ReportTests {
    @Test func reportIsReadBackAsItWasWritten() throws {
        let report = Self.treeReport
        let again = try Report(json: Array(try report.json.utf8))
        #expect(try again.json == report.json)
        #expect(again.markdown == report.markdown && BarChart(again).svg == BarChart(report).svg)
    }

    @Test func reportOfAnotherSchemaIsRefused() throws {
        let json = try Self.treeReport.json.replacing(Report.schemaName, with: "pulsefs-bench/report/1")
        #expect(throws: BenchFailure.self) { try Report(json: Array(json.utf8)) }
    }

    @Test func markdownShowsTimesRatiosAndFailures() {
        let markdown = Self.treeReport.markdown
        #expect(markdown.contains("| git clone |     10.0 |       20.0 |       40.0 |    failed | 50 % |"))
        #expect(
            markdown.contains("| git clone |    2.00 |    4.00 | failed |                     |              2.00 |"))
        #expect(markdown.contains("- git clone on bindfs: ended with 1"))
    }

    @Test func chartHasABarForEachFigure() {
        let svg = BarChart(Self.treeReport).svg
        #expect(svg.split(separator: "\n").count { $0.hasPrefix("<rect class=\"bar") && $0.contains("<title>") } == 2)
        #expect(svg.contains("prefers-color-scheme: dark") && svg.contains(">failed</text>"))
        #expect(!svg.contains("<script") && !svg.contains("href") && !svg.contains("nan"))
        #expect(svg.contains("old &lt;1&gt;"))
    }

    @Test func chartByColumnLeavesOutRatios() {
        let rows = [
            Report.Row("town", [.number(3, samples: [2, 4])]), Report.Row("plain", [.number(1, samples: [1, 1])]),
            Report.Row("town ÷ plain", [.number(3)]),
        ]
        let table = Report.Table(
            columns: ["write p50"], rows: rows, chartColumns: [0], chartsByColumn: true, chartSuffix: ", one core")
        let chart = BarChart(
            Report(
                title: "", machine: Machine(), noise: Self.noise, introduction: [], sections: [.init(table: table)],
                axis: ""))
        #expect(chart.series == ["town", "plain"])
        #expect(chart.groups.map(\.label) == ["write p50, one core"] && chart.groups[0].bars.map(\.value) == [3, 1])
    }

    @Test func numbersHaveThreeDigits() {
        #expect([0, 0.126, 12.34, 1234.5].map { number($0) } == ["0.00", "0.13", "12.3", "1235"])
        #expect(number(-0.5) == "-0.50" && number(.infinity) == "inf" && percent(0.125, digits: 1) == "12.5 %")
    }

    @Test func axisCoversItsValues() {
        let scale = LogScale(values: [0.7, 3, 42, 1], range: 0...100)
        #expect(scale.ticks == [0.5, 1, 2, 5, 10, 20, 50])
        #expect(scale.position(0.5) == 0 && scale.position(50) == 100)
        #expect(scale.position(0.7) < scale.position(1) && scale.position(42) > scale.position(3))
        #expect(LogScale(values: [0.001, 90_000], range: 0...100).ticks.count < 12)
        #expect(LogScale(values: [], range: 0...100).ticks.count > 1)
    }

    @Test func partOfADocumentIsReplacedAndNothingElse() throws {
        let part = try #require(DocumentPart(argument: "docs/A.md#tree"))
        #expect(part.file == "docs/A.md")
        let text = "before\n<!-- tree -->\nold\n<!-- /tree -->\nafter\n"
        let replaced = try #require(part.replaced(in: text, with: "new"))
        #expect(replaced == "before\n<!-- tree -->\n\nnew\n\n<!-- /tree -->\nafter\n")
        #expect(part.replaced(in: replaced, with: "new") == replaced)
        #expect(part.replaced(in: "no such part", with: "new") == nil)
        #expect(DocumentPart(argument: "docs/A.md") == nil)
    }

    private static let noise = Noise(loadBefore: 0.5, loadAfter: 2, stolenShare: 0.01)

    /// A step on four targets, one of which failed.
    private static var treeReport: Report {
        let targets = [
            Target.plain, Target(name: "pulsefs", kind: .pulsefs), Target(name: "old <1>", kind: .pulsefs),
            Target(name: "bindfs", kind: .bindfs),
        ]
        var record = TreeBenchmark.Record(of: TreeStep.all[0], targets: targets.count)
        for (target, rounds) in [[0.01, 0.01], [0.02, 0.03], [0.04, 0.06]].enumerated() {
            for seconds in rounds { record.add(.done(.init(seconds: [seconds])), of: target) }
        }
        record.add(.failed("ended with 1"), of: 3)
        return TreeReport(targets: targets, records: [record]).report(noise: noise, introduction: ["a repository"])
    }
}
