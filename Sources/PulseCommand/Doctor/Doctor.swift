import ArgumentParser
import Daemon
import TownFS

struct Doctor: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Check a town and its machine for problems.",
        discussion: """
            One line for each check: ok, warning, problem or unknown, the finding, its meaning and what to do. Works for a \
            town that is not mounted, too, and changes nothing. An ordinary user sees only their own processes.

            Exit status: 0 no problem, 1 problems, 2 could not tell.
            """)

    @Argument(help: ArgumentHelp("The directory, mounted or not.", valueName: "town"), completion: .directory)
    var town: String

    @Flag(help: "Print a JSON object instead.")
    var json = false

    /// What --json prints.
    private struct Report: Encodable {
        let town: String
        let mounted: Bool
        /// The worst of the findings: `ok`, `warning`, `problem`, or `unknown` where no problem was found.
        let verdict: Finding.Level
        let findings: [Finding]
    }

    func run() throws {
        let facts: TownFacts
        do {
            facts = try TownFacts.gather(TownPath(town))
        } catch {
            throw Failure("\(error)", .couldNotTell)
        }
        let findings = facts.findings
        let verdict = Self.verdict(findings)
        if json {
            let report = Report(town: facts.town, mounted: facts.isMounted, verdict: verdict, findings: findings)
            print(try JSONText.encode(report))
        } else {
            for finding in findings { print(finding.line) }
        }
        switch verdict {
        case .ok, .warning: return
        case .problem: throw ExitCode(ExitStatus.failed.rawValue)
        case .unknown: throw ExitCode(ExitStatus.couldNotTell.rawValue)
        }
    }

    /// The worst: a problem is one, even if another check was not possible.
    static func verdict(_ findings: [Finding]) -> Finding.Level {
        let levels = Set(findings.map(\.level))
        return [.problem, .unknown, .warning].first { levels.contains($0) } ?? .ok
    }
}

/// The result of one check of `pulsefs doctor`.
struct Finding: Codable, Hashable, Sendable {
    enum Level: String, Codable, Sendable {
        case ok
        /// Works, but may surprise.
        case warning
        case problem
        /// The check was not possible.
        case unknown
    }

    /// The name of the check, which never changes.
    var check = ""
    let level: Level
    let finding: String
    /// Nil if obvious.
    var meaning: String?
    var advice: String?

    static func ok(_ finding: String) -> Finding {
        Finding(level: .ok, finding: finding)
    }

    static func warning(_ finding: String, _ meaning: String, do advice: String) -> Finding {
        Finding(level: .warning, finding: finding, meaning: meaning, advice: advice)
    }

    static func problem(_ finding: String, _ meaning: String, do advice: String) -> Finding {
        Finding(level: .problem, finding: finding, meaning: meaning, advice: advice)
    }

    static func unknown(_ finding: String, do advice: String) -> Finding {
        Finding(level: .unknown, finding: finding, advice: advice)
    }

    /// One printable line.
    var line: String {
        let words = [finding, meaning, advice].compactMap { $0 }.map { $0.hasSuffix(".") ? $0 : $0 + "." }
        return TerminalText.printable(
            "\(TerminalText.fitted(level.rawValue, to: 7))  \(check): \(words.joined(separator: " "))")
    }
}
