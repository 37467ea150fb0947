import ArgumentParser
import Daemon

/// `pulsefs manual`: prints the manual page, as roff (man(7)), made from the help.
struct Manual: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Print the manual page (for mount-scripts/install).", shouldDisplay: false)

    func run() {
        print(Self.page, terminator: "")
    }

    /// The date of the last change of the commands.
    private static let date = "2026-11-30"

    static var page: String {
        let top = PulseFS.configuration
        // In columns so wide, the help has one line for each argument: `  --ttl <duration>        How long …`
        let commands = top.subcommands.filter { $0.configuration.shouldDisplay }
            .flatMap { [$0] + $0.configuration.subcommands }
            .map { (about: $0.configuration, help: PulseFS.helpMessage(for: $0, columns: 10_000)) }
        func usage(_ help: String) -> String { (help.firstMatch(of: /USAGE: (.+)/)?.1).map(String.init) ?? "" }
        var page = Roff()
        page.request("TH", "PULSEFS", "1", date, "pulsefs \(PulseFS.version)", "User Commands")
        page.request("SH", "NAME")
        // Without the full stop.
        page.line("pulsefs \\- " + Roff.escaped(String(top.abstract.dropLast())))
        page.request("SH", "SYNOPSIS")
        page.unfilled(commands.map { usage($0.help) })
        page.request("SH", "DESCRIPTION")
        // There is a section for exit statuses.
        page.paragraphs(top.discussion.replacing(ExitStatus.overview, with: ""))
        page.request("SH", "COMMANDS")
        for (about, help) in commands {
            let words = usage(help).split(separator: " ").prefix { !$0.hasPrefix("<") && !$0.hasPrefix("[") }
            page.request("SS", words.joined(separator: " "))
            page.paragraphs("\(about.abstract)\n\n\(about.discussion)")
            for argument in help.matches(of: /(?m)^  (-(?!-version)[^< ,]+(?: <[^>]+>)?|<[^>]+>) +(\S.*)$/) {
                page.entry("\\fB\(Roff.escaped(String(argument.1)))\\fR", String(argument.2))
            }
        }
        page.request("SH", "EXIT STATUS")
        for status in ExitStatus.allCases { page.entry("\\fB\(status.rawValue)\\fR", status.meaning + ".") }
        page.request("SH", "FILES")
        for (path, meaning) in files { page.entry("\\fI\(Roff.escaped(path))\\fR", meaning) }
        page.request("SH", "ENVIRONMENT")
        for (name, meaning) in environment { page.entry("\\fB\(name)\\fR", meaning) }
        page.request("SH", "SEE ALSO")
        page.line("\\fBfusermount3\\fR(1), \\fBmount\\fR(8), \\fBfuse\\fR(4)")
        return page.text
    }

    private static let files: KeyValuePairs = [
        "TOWN/.pulse/status.json": "The state of the town.",
        "TOWN/.pulse/runtimes/ID.json": "The state of a runtime.",
        "TOWN/.pulse/alive/ID":
            "Exists while the runtime is alive. Touch it to touch the runtime, remove it to forget the runtime.",
        "TOWN/.pulse/events": "Events, one JSON object per line.",
        "TOWN/.pulse/metrics": "Metrics for Prometheus.",
        "/var/lib/pulsefs":
            "What towns that root has mounted know of their runtimes, for the next mount.",
        "/var/log/pulsefs":
            "Logs of towns that root has mounted. Those of other users are in ~/.local/state/pulsefs.",
    ]

    private static let environment: KeyValuePairs = [
        "PULSEFS_REDIS_URL": "The URL of the Redis mirror. For URLs with a password.",
        "NO_COLOR": "If set and not empty, 'pulsefs watch' uses no colours.",
    ]
}

/// Builds a page of man(7).
private struct Roff {
    private(set) var text = ""

    mutating func line(_ line: String) {
        // These characters begin a request.
        text += (line.hasPrefix(".") || line.hasPrefix("'") ? "\\&" : "") + line + "\n"
    }

    mutating func request(_ name: String, _ arguments: String...) {
        // Our own words need no escaping.
        text += ([".\(name)"] + arguments.map { "\"\($0)\"" }).joined(separator: " ") + "\n"
    }

    /// Preformatted lines.
    mutating func unfilled(_ lines: [String]) {
        request("nf")
        for line in lines { self.line(Self.escaped(line)) }
        request("fi")
    }

    /// Paragraphs, separated by empty lines; in examples each line begins with two spaces.
    mutating func paragraphs(_ words: String) {
        for (number, paragraph) in words.split(separator: "\n\n").enumerated() {
            if number > 0 { request("PP") }
            if paragraph.hasPrefix("  ") {
                unfilled(paragraph.split(separator: "\n").map(String.init))
            } else {
                filled(String(paragraph))
            }
        }
    }

    /// A term, with markup, and its meaning.
    mutating func entry(_ term: String, _ meaning: String) {
        request("TP")
        line(term)
        filled(meaning)
    }

    /// A paragraph, in lines of at most 80 bytes.
    private mutating func filled(_ words: String) {
        var line = ""
        for word in words.split(separator: " ").map({ Self.escaped(String($0)) }) {
            if !line.isEmpty, line.utf8.count + 1 + word.utf8.count > 80 {
                self.line(line)
                line = ""
            }
            line += line.isEmpty ? word : " " + word
        }
        self.line(line)
    }

    private static let escapes: [Character: String] = [
        "\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "~": "\\(ti", "^": "\\(ha",
    ]

    /// Escapes the characters of ASCII that are special in roff.
    static func escaped(_ text: String) -> String {
        text.map { escapes[$0] ?? String($0) }.joined()
    }
}
