import Glibc
import Testing

@testable import PulseBench

@Suite struct ReportTests {
    @Test func treeReportIsReadBackAsItWasWritten() throws {
        let report = Self.treeReport
        let json = try report.json
        let again = try TreeReport(json: Array(json.utf8))
        #expect(try again.json == json)
        #expect(again.markdown == report.markdown && again.chart.svg == report.chart.svg)
        #expect(json.contains(#""schema" : "pulsefs-bench/tree/1""#) && json.contains(#""to_best_peer""#))
    }

    @Test func touchReportIsReadBackAsItWasWritten() throws {
        let report = try Self.touchReport()
        let json = try report.json
        let again = try TouchReport(json: Array(json.utf8))
        #expect(try again.json == json)
        #expect(again.markdown == report.markdown && again.chart.svg == report.chart.svg)
        #expect(json.contains(#""idle_cpu_milliseconds""#) && json.contains(#""round_p50""#))
    }

    @Test func markdownShowsTimesRatiosAndFailures() {
        let markdown = Self.treeReport.markdown
        #expect(markdown.contains("| find |     10.0 |       20.0 |       40.0 |    failed |"))
        #expect(markdown.contains("| find |    2.00 |    4.00 | failed |                0.50 |              2.00 |"))
        #expect(markdown.contains("- find on bindfs: ended with 1"))
        #expect(markdown.contains("- mergerfs is not measured: not installed"))
    }

    @Test func pictureIsPlainAndHasABarForEachFigure() {
        let svg = Self.treeReport.chart.svg
        #expect(svg.split(separator: "\n").count { $0.hasPrefix("<rect class=\"bar") && $0.contains("<title>") } == 2)
        #expect(svg.contains("prefers-color-scheme: dark") && svg.contains(">failed</text>"))
        #expect(!svg.contains("<script") && !svg.contains("href") && !svg.contains("nan"))
        #expect(svg.contains("old &lt;1&gt;"))
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
    private static var treeReport: TreeReport {
        let plain = TreeReport.Result(target: "plain", rounds: [[0.01], [0.01]], failure: nil)
        let town = TreeReport.Result(target: "pulsefs", rounds: [[0.02], [0.03]], failure: nil)
        let old = TreeReport.Result(target: "old <1>", rounds: [[0.04], [0.06]], failure: nil)
        let peer = TreeReport.Result(target: "bindfs", rounds: [], failure: "ended with 1")
        let results = [plain, town, old, peer].map { $0.compared(withPlain: 0.01, bestPeer: 0.04, town: town) }
        let kinds: [(String, TreeTarget.Kind)] = [
            ("plain", .plain), ("pulsefs", .pulsefs), ("old <1>", .pulsefs), ("bindfs", .bindfs),
        ]
        return TreeReport(
            machine: Machine(), noise: noise,
            settings: .init(
                rounds: 2, directory: "/dev/shm", fileSystem: "tmpfs", repository: nil, seed: 1, pattern: "word",
                megabytes: 8),
            tree: .init(head: "0123456789abcdef", files: 3, commits: 2, bytes: 1_000),
            targets: kinds.map { .init(name: $0, kind: $1, version: "1", command: nil, fileSystem: "tmpfs") },
            absent: [.init(name: "mergerfs", reason: "not installed")],
            steps: [.init(name: "find", summary: "names", warm: true, samples: 1, results: results)])
    }

    private static func touchReport() throws -> TouchReport {
        let operation = try TouchReport.Operation(rounds: [[1, 2], [3, 4]])
        let client = try TouchClient(write: .init([1, 2, 3]), read: .init([1, 2, 3]))
        let figures = TouchReport.Figures(
            target: .mount, directory: "/t", fileSystem: "fuse.pulsefs", write: operation, read: operation,
            open: operation, torn: .init(TornReads()))
        let cost = TouchReport.Cost(pid: 1, rss: 2, pss: 3, idleCPUMilliseconds: 0)
        return TouchReport(
            machine: Machine(), noise: noise, version: "1",
            settings: .init(rounds: 2, samples: 2, tornSeconds: 1, polling: false, clients: 1, clientSeconds: 1),
            targets: [figures], ratios: [],
            oneCore: .init(
                core: 1, targets: [.init(target: .mount, write: operation, read: operation, open: operation)],
                ratios: []),
            clients: [try .init(target: .mount, rounds: [[client]])],
            burst: .init(touches: 200, windowSeconds: 0.3, microseconds: [0, 12]),
            servers: .init(walkedFiles: 1, idleSeconds: 1, keeper: cost, worker: cost))
    }
}
