import ArgumentParser
import Daemon
import Glibc

/// `pulsefs doctor`.
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

    /// The worst: a problem is one, whatever else could not be looked at.
    static func verdict(_ findings: [Finding]) -> Finding.Level {
        let levels = Set(findings.map(\.level))
        return [.problem, .unknown, .warning].first { levels.contains($0) } ?? .ok
    }
}
