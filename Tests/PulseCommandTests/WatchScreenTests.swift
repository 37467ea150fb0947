import Liveness
import Testing

@testable import PulseCommand
@testable import TownFS

/// The screens of `pulsefs watch`, character by character.
@Suite struct WatchScreenTests {
    private static let now = ContinuousClock.now

    private static func row(
        _ id: String, _ state: String, age: Double, left: Double = 0, shows: String? = nil, command: String? = nil,
        source: String = "written", by: String? = nil, program: String? = nil, readBefore passed: Double = 0
    ) -> WatchScreen.Row {
        var runtime = RuntimeReport(id: id, state: state)
        runtime.evidence = RuntimeReport.Evidence(
            source: source, by: by, host: "anna", pid: program.map { _ in 4711 }, program: program)
        (runtime.ageSeconds, runtime.ttlLeftSeconds) = (age, left)
        (runtime.lastCommand, runtime.reportedState) = (command, shows)
        return WatchScreen.Row(runtime: runtime, readAt: now - .seconds(passed))
    }

    /// A town with something of every kind.
    private static let town = WatchScreen(
        town: "/home/anna/gt", host: "anna",
        rows: [
            row("mayor", "alive", age: 0.4, left: 89.6, shows: "working", command: "gt mail check", by: "GT_ROLE"),
            row("gastown/polecats/furiosa", "alive", age: 3, left: 87, command: "go test ./…", program: "claude"),
            row("gastown/witness", "expired", age: 125, shows: "idle", command: "gt patrol", readBefore: 60),
            row("deacon", "exited", age: 11_000, command: "gt handoff", by: "BD_ACTOR", program: "node"),
            row("gastown/crew/max", "alive", age: 30, left: 60, shows: "stuck", command: "日本語のコマンド", source: "renamed"),
        ])

    private static func screen(_ town: WatchScreen, _ columns: Int, _ rows: Int, from first: Int = 0) -> String {
        let lines = town.lines(WatchScreen.Size(columns: columns, rows: rows), at: now, from: first)
        #expect(lines.count <= rows)
        for line in lines { #expect(TerminalText.width(line.map(\.text).joined()) <= columns, "\(line.text)") }
        return lines.map(\.text).joined(separator: "\n")
    }

    @Test func eightyColumnsShowFullNames() {
        #expect(
            Self.screen(Self.town, 80, 24) == """
                /home/anna/gt                                       3 alive, 1 expired, 1 exited
                no mirror
                STATE    RUNTIME                      AGE    LEFT  SAYS     LAST COMMAND
                exited   deacon                     3h03m       -           gt handoff
                expired  gastown/witness            3m05s       -  idle     gt patrol
                alive    gastown/crew/max             30s   1m00s  stuck    日本語のコマンド
                alive    gastown/polecats/furiosa      3s   1m27s           go test ./…
                alive    mayor                         0s   1m29s  working  gt mail check
                """)
    }

    @Test func wideTerminalCutsNothing() {
        #expect(
            Self.screen(Self.town, 120, 40) == """
                /home/anna/gt                                                                               3 alive, 1 expired, 1 exited
                no mirror
                STATE    RUNTIME                      AGE    LEFT  SAYS     LAST COMMAND      EVIDENCE
                exited   deacon                     3h03m       -           gt handoff        written, by BD_ACTOR, node 4711
                expired  gastown/witness            3m05s       -  idle     gt patrol         written
                alive    gastown/crew/max             30s   1m00s  stuck    日本語のコマンド  renamed
                alive    gastown/polecats/furiosa      3s   1m27s           go test ./…       written, claude 4711
                alive    mayor                         0s   1m29s  working  gt mail check     written, by GT_ROLE
                """)
    }

    @Test func veryWideTerminalShowsTheClocks() {
        var town = Self.town
        var clocks = RuntimeReport.Clocks()
        clocks.beat = .init(at: "", ageSeconds: 75)
        clocks.backgroundWork = .init(at: "", ageSeconds: 2)
        clocks.cpuSeconds = 0.4
        town.rows = [town.rows[0]]
        town.rows[0].runtime.clocks = clocks
        #expect(
            Self.screen(town, 130, 5).split(separator: "\n").suffix(2).joined(separator: "\n") == """
                STATE    RUNTIME     AGE    LEFT  SAYS     LAST COMMAND   EVIDENCE               BEAT    WORK  BACKGR     CPU
                alive    mayor        0s   1m29s  working  gt mail check  written, by GT_ROLE   1m15s       -      2s      0s
                """)
    }

    @Test func narrowTerminalKeepsTheImportantColumns() {
        #expect(
            Self.screen(Self.town, 40, 10) == """
                …e/anna/gt  3 alive, 1 expired, 1 exited
                no mirror
                STATE    RUNTIME             AGE    LEFT
                exited   deacon            3h03m       -
                expired  gastown/witness   3m05s       -
                alive    …stown/crew/max     30s   1m00s
                alive    …lecats/furiosa      3s   1m27s
                alive    mayor                0s   1m29s
                """)
    }

    @Test func hiddenRowsAreCountedAndScrollable() {
        var town = Self.town
        town.rows = (10..<40).map { Self.row("agent-\($0)", "alive", age: 1, left: 89) }
        #expect(
            Self.screen(town, 40, 8) == """
                /home/anna/gt                   30 alive
                no mirror
                STATE    RUNTIME      AGE    LEFT  SAYS
                alive    agent-10      1s   1m29s
                alive    agent-11      1s   1m29s
                alive    agent-12      1s   1m29s
                alive    agent-13      1s   1m29s
                … and 26 more
                """)
        let last = town.lastFirst(WatchScreen.Size(columns: 40, rows: 8))
        #expect(
            Self.screen(town, 40, 8, from: last) == """
                /home/anna/gt                   30 alive
                no mirror
                STATE    RUNTIME      AGE    LEFT  SAYS
                alive    agent-36      1s   1m29s
                alive    agent-37      1s   1m29s
                alive    agent-38      1s   1m29s
                alive    agent-39      1s   1m29s
                … and 26 more
                """)
    }

    @Test func problemsAreShownInTheSecondLineAndInColour() {
        var town = Self.town
        town.trouble = "/home/anna/gt has not answered for 4s"
        let lines = town.lines(WatchScreen.Size(columns: 80, rows: 24), at: Self.now)
        #expect(lines[1].text == "/home/anna/gt has not answered for 4s")
        #expect(lines.dropFirst(3).joined().allSatisfy { $0.style == .faint })
    }

    @Test func mirrorIsShownWithItsProblem() {
        var town = Self.town
        let up = MirrorStatus.Link(.up, since: WallTime(seconds: 0))
        town.mirror = MirrorStatus(
            server: "redis://10.0.0.1:6379/0", townName: "gt", heartbeats: up,
            records: .init(.refused, since: WallTime(seconds: 0), reason: "NOPERM\u{1b}]0;x\u{7}"),
            subscription: up)
        let line = town.lines(WatchScreen.Size(columns: 80, rows: 24), at: Self.now)[1]
        #expect(line.text == "mirror redis://10.0.0.1:6379/0: refused, NOPERM␛]0;x␇")
    }

    @Test(arguments: [(0, 0), (1, 1), (3, 3), (7, 2), (10, 4), (500, 200)])
    func anySizeIsKeptTo(columns: Int, rows: Int) {
        _ = Self.screen(Self.town, columns, rows)
        _ = Self.screen(WatchScreen(town: "/gt", host: ""), columns, rows)
    }

    @Test func nothingThatATerminalObeysGetsThrough() {
        let hostile =
            (0...0x2ff).compactMap { Unicode.Scalar($0 as UInt32) }.map { String($0) }.joined()
            + "\u{202e}\u{200b}\u{2028}\u{e000}\u{feff}e\u{301}\u{302}\u{303}\u{304}"
        var town = Self.town
        town.town = hostile
        town.rows = [
            Self.row(
                "x", hostile, age: 1, shows: hostile, command: hostile, source: hostile, by: hostile, program: hostile)
        ]
        for columns in [40, 80, 2000] {
            for scalar in Self.screen(town, columns, 24).unicodeScalars where scalar != "\n" {
                #expect(!scalar.properties.isDefaultIgnorableCodePoint)
                switch scalar.properties.generalCategory {
                case .control, .format, .lineSeparator, .paragraphSeparator, .privateUse:
                    Issue.record("U+\(String(scalar.value, radix: 16))")
                default: break
                }
            }
        }
    }

    @Test(arguments: [
        (0, "0s"), (59.9, "59s"), (60, "1m00s"), (3599, "59m59s"), (3600, "1h00m"), (86_399, "23h59m"),
        (86_400, "1d00h"), (8_640_000, "100d"), (-1, "0s"), (1e300, "11574074074d"), (.infinity, "11574074074d"),
    ])
    func secondsAreShownShort(seconds: Double, words: String) {
        #expect(describe(seconds: seconds) == words)
    }

    @Test(arguments: [
        ("abc", 3, "abc"), ("abcd", 3, "…cd"), ("日本", 4, "日本"), ("日本語", 5, "…本語"), ("日本語", 4, "…語"),
        ("ae\u{301}bc", 3, "…bc"), ("a", 0, ""), ("ab", 1, "…"),
    ])
    func endOfATextIsKept(text: String, columns: Int, cut: String) {
        #expect(TerminalText.cut(text, to: columns, keeping: .end) == cut)
        #expect(TerminalText.width(TerminalText.fitted(text, to: columns, keeping: .end)) == columns)
    }

    @Test(arguments: [
        ("abc", 3, "abc"), ("abcd", 3, "ab…"), ("日本", 4, "日本"), ("日本語", 5, "日本…"), ("日本語", 4, "日…"),
        ("e\u{301}e\u{301}e", 2, "e\u{301}…"), ("a", 0, ""), ("ab", 1, "…"), ("", 3, ""),
    ])
    func textIsCutByColumns(text: String, columns: Int, cut: String) {
        #expect(TerminalText.cut(text, to: columns) == cut)
        #expect(TerminalText.width(TerminalText.fitted(text, to: columns)) == columns)
    }
}
