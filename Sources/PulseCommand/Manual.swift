import ArgumentParser
import Daemon

/// `pulsefs manual`: prints the manual page, as roff (man(7)), generated from the help.
struct Manual: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Print the manual page (for mount-scripts/install).", shouldDisplay: false)

    func run() throws {
        guard let page = Self.page(help: PulseFS._dumpHelp()) else {
            throw Failure("the help cannot be read.")
        }
        print(page, terminator: "")
    }

    /// The date of the last change of the commands.
    private static let date = "2026-11-21"

    // MARK: ArgumentParser's description of the commands

    private struct Help: Decodable {
        let command: Command
    }

    private struct Command: Decodable {
        let commandName: String
        let shouldDisplay: Bool?
        let abstract: String?
        let discussion: String?
        let subcommands: [Command]?
        let arguments: [Argument]?

        var visibleArguments: [Argument] { (arguments ?? []).filter { $0.shouldDisplay && !$0.isForEveryCommand } }
        var positionals: [Argument] { visibleArguments.filter { $0.kind == "positional" } }
        var options: [Argument] { visibleArguments.filter { $0.kind != "positional" } }
    }

    private struct Argument: Decodable {
        struct Name: Decodable {
            let kind: String
            let name: String

            var spelled: String { kind == "long" ? "--\(name)" : "-\(name)" }
        }

        /// `positional`, `option` or `flag`.
        let kind: String
        let shouldDisplay: Bool
        let isOptional: Bool
        let isRepeating: Bool
        let names: [Name]?
        let valueName: String?
        let defaultValue: String?
        let allValues: [String]?
        let abstract: String?

        var isForEveryCommand: Bool { names?.contains { $0.name == "help" || $0.name == "version" } ?? false }
    }

    // MARK: The page

    /// Nil if the help cannot be decoded.
    ///
    /// - Parameter help: The output of `--experimental-dump-help`.
    static func page(help: String) -> String? {
        guard let help: Help = JSONText.decode(help, keys: .unchanged) else { return nil }
        let top = help.command
        let commands = (top.subcommands ?? []).filter { $0.shouldDisplay != false && $0.commandName != "help" }
        var page = Roff()
        page.request("TH", "PULSEFS", "1", date, "pulsefs \(PulseFS.version)", "User Commands")
        page.request("SH", "NAME")
        page.line("pulsefs \\- " + Roff.escaped(top.abstract?.withoutFullStop ?? ""))
        page.request("SH", "SYNOPSIS")
        page.unfilled(commands.map { synopsis(of: $0) })
        page.request("SH", "DESCRIPTION")
        // There is a section for exit statuses.
        page.text((top.discussion ?? "").replacing(ExitStatus.overview, with: ""))
        page.request("SH", "COMMANDS")
        for command in commands {
            page.request("SS", "pulsefs \(command.commandName)")
            page.text("\(command.abstract ?? "")\n\n\(command.discussion ?? "")")
            for argument in command.positionals + command.options { page.entry(term(argument), described(argument)) }
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

    private static func synopsis(of command: Command) -> String {
        let options = command.options.map { option in
            let words = "[" + term(option) + "]"
            return option.isRepeating ? words + "..." : words
        }
        // The list of options follows below.
        let shortened = options.count > 3 ? ["[\\fIoptions\\fR]"] : options
        let positionals = command.positionals.map { argument in
            "\\fI\(Roff.escaped(argument.valueName ?? ""))\\fR" + (argument.isRepeating ? "..." : "")
        }
        return (["\\fBpulsefs \(command.commandName)\\fR"] + shortened + positionals).joined(separator: " ")
    }

    private static func term(_ argument: Argument) -> String {
        let value = "\\fI\(Roff.escaped(argument.valueName ?? ""))\\fR"
        if argument.kind == "positional" { return value }
        let names = (argument.names ?? []).map { "\\fB\(Roff.escaped($0.spelled))\\fR" }.joined(separator: ", ")
        return argument.kind == "option" ? "\(names) \(value)" : names
    }

    private static func described(_ argument: Argument) -> String {
        var words = argument.abstract ?? ""
        if let values = argument.allValues, !values.isEmpty { words += " One of \(values.joined(separator: ", "))." }
        if let value = argument.defaultValue { words += " By default \(value)." }
        return words
    }

    private static let files = [
        ("TOWN/.pulse/status.json", "The state of the town."),
        ("TOWN/.pulse/runtimes/ID.json", "The state of a runtime."),
        (
            "TOWN/.pulse/alive/ID",
            "Exists while the runtime is alive. Touch it to touch the runtime, remove it to forget the runtime."
        ),
        ("TOWN/.pulse/events", "Events, one JSON object per line."),
        ("TOWN/.pulse/metrics", "Metrics for Prometheus."),
        (
            "/var/log/pulsefs",
            "Logs of towns that root has mounted. Those of other users are in ~/.local/state/pulsefs."
        ),
    ]

    private static let environment = [
        ("PULSEFS_REDIS_URL", "The URL of the Redis mirror. For URLs with a password."),
        ("NO_COLOR", "If set and not empty, 'pulsefs watch' uses no colours."),
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

    /// Preformatted lines, with markup.
    mutating func unfilled(_ lines: [String]) {
        request("nf")
        for line in lines { self.line(line) }
        request("fi")
    }

    /// Paragraphs, separated by empty lines.
    ///
    /// Lines that begin with two spaces are examples.
    mutating func text(_ words: String) {
        var isFirst = true
        var isAfterGap = false
        var isExample = false
        for line in words.split(separator: "\n", omittingEmptySubsequences: false) {
            guard !line.isEmpty else {
                isAfterGap = true
                continue
            }
            if isExample != line.hasPrefix("  ") {
                isExample.toggle()
                if isExample { request("PP") }
                request(isExample ? "nf" : "fi")
            }
            if isAfterGap, !isFirst, !isExample { request("PP") }
            (isFirst, isAfterGap) = (false, false)
            if isExample { self.line(Self.escaped(String(line))) } else { filled(String(line)) }
        }
        if isExample { request("fi") }
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

    /// Escapes all characters that are special in roff.
    static func escaped(_ text: String) -> String {
        text.unicodeScalars.map { scalar in
            switch scalar {
            case "\\": "\\e"
            case "-": "\\-"
            case "'": "\\(aq"
            case "`": "\\(ga"
            case "~": "\\(ti"
            case "^": "\\(ha"
            case _ where !scalar.isASCII: "\\[u" + Self.hexadecimal(scalar.value) + "]"
            default: String(scalar)
            }
        }.joined()
    }

    /// At least four digits, upper case.
    private static func hexadecimal(_ value: UInt32) -> String {
        let digits = String(value, radix: 16, uppercase: true)
        return String(repeating: "0", count: max(0, 4 - digits.count)) + digits
    }
}

extension String {
    fileprivate var withoutFullStop: String { hasSuffix(".") ? String(dropLast()) : self }
}
