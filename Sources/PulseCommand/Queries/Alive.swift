import ArgumentParser
import Daemon
import Linux
import Liveness
import SystemPackage
import TownFS

struct Alive: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Tell whether runtimes are alive.",
        discussion: """
            One line for each runtime: state, id, time since the last touch, and its source. A runtime is alive, expired \
            (its ttl has passed), exited (its process has ended) or never (unknown to the town, or without a sign of \
            life of its own). --json adds the four clocks: beat, work, background_work and cpu_seconds.

            Exit status: 0 all are alive, 1 not all, 2 could not tell or not mounted.
            """)

    @Argument(help: .town, completion: .directory)
    var town: String

    @Argument(help: .runtime, completion: .runtimes, transform: { try RuntimeID($0) })
    var ids: [RuntimeID]

    @Flag(help: "Print a JSON object instead.")
    var json = false

    /// What --json prints.
    private struct Report: Encodable {
        let town: String
        let allAlive: Bool
        let runtimes: [RuntimeReport]
    }

    func run() throws {
        let report: Report
        do {
            let place = try TownPath(town)
            let mount = try place.requireMount()
            let runtimes = try read(from: mount).get(from: mount)
            report = Report(town: place.path, allAlive: runtimes.allSatisfy(\.isAlive), runtimes: runtimes)
            json ? print(try JSONText.encode(report)) : show(runtimes)
        } catch {
            // Any failure: 1 would mean that a runtime is not alive.
            throw Failure("\(error)", .couldNotTell)
        }
        if !report.allAlive { throw ExitCode(ExitStatus.failed.rawValue) }
    }

    private func read(from mount: MountInfo) throws(Errno) -> TownAnswer<[RuntimeReport]> {
        try .ask { [ids] () throws(Errno) in
            let directory = try OwnedDescriptor(openingPulse: "runtimes", of: mount)
            var reports: [RuntimeReport] = []
            for id in ids {
                var report =
                    try RuntimeReport.read(id, in: directory) ?? RuntimeReport(id: id.description, state: "never")
                // Only the file has them.
                (report.rootPid, report.document) = (nil, nil)
                reports.append(report)
            }
            return reports
        }
    }

    private func show(_ runtimes: [RuntimeReport]) {
        let width = runtimes.map(\.id.count).max() ?? 0
        for runtime in runtimes {
            let state = TerminalText.printable(runtime.state)
            var line = "\(TerminalText.fitted(state, to: max(7, state.count)))  "
            guard runtime.ageSeconds != nil || runtime.evidence != nil else {
                print(line + TerminalText.printable(runtime.id))
                continue
            }
            line += TerminalText.fitted(TerminalText.printable(runtime.id), to: width)
            if let age = runtime.ageSeconds { line += "  \(describe(seconds: age)) ago" }
            if let words = runtime.evidence?.words(on: Host.name) { line += "  \(TerminalText.printable(words))" }
            print(line)
        }
    }
}
