import FoundationEssentials
import Glibc
import Testing

@testable import PulsefsBench

/// The program as a whole with a built pulsefs, in sizes in which its figures mean nothing.
@Suite(.serialized, .enabled(if: PulsefsProgram.isUsable, "needs root, /dev/fuse and a built pulsefs"))
struct ProgramTests {
    @Test func everyStepOfTreeSucceedsAndNothingStaysBehind() throws {
        try withScratchDirectory(in: "/var/tmp") { place in
            try withScratchDirectory(in: "/var/tmp") { results in
                let (report, picture) = ("\(results)/report.json", "\(results)/report.svg")
                let printed = try bench(
                    "tree", "--rounds", "1", "--files", "30", "--megabytes", "1", "--target", "pulsefs", "--directory",
                    place, "--save", report, "--pulsefs", PulsefsProgram.path)
                for step in TreeStep.all { #expect(printed.contains("| \(step.name) "), "\(step.name)") }
                #expect(!printed.contains("failed"), "\(printed)")
                #expect(try bench("render", report, "--svg", picture) == printed)
                #expect(try readText(picture).hasSuffix("</svg>\n"))
                #expect(try FileManager.default.contentsOfDirectory(atPath: place) == [])
            }
        }
    }

    @Test func touchMeasuresVariantsAndClientsAndNothingStaysBehind() throws {
        try withScratchDirectory(in: "/var/tmp") { place in
            let printed = try bench(
                "touch", "--rounds", "1", "--samples", "5", "--seconds", "0.05", "--idle-seconds", "0", "--files", "5",
                "--clients", "2", "--directory", place, "--pulsefs", PulsefsProgram.path, "--variant",
                "quiet=no-attribution")
            for part in [
                "| pulsefs ÷ quiet ", "2 clients at once", "CPU time of the worker", "| worker ",
            ] {
                #expect(printed.contains(part), "\(part)")
            }
            #expect(try FileManager.default.contentsOfDirectory(atPath: place) == [])
        }
    }

    @Test func nothingFailsWhateverDies() throws {
        try withScratchDirectory(in: "/var/tmp") { place in
            let printed = try bench(
                "survive", "--kills", "6", "--victim", "worker", "--victim", "keeper", "--victim", "upgrade",
                "--clients",
                "2", "--warm-up-seconds", "1", "--interval", "0.5", "--directory", place, "--pulsefs",
                PulsefsProgram.path)
            #expect(printed.contains("| deaths                          |       0 |           6 |"), "\(printed)")
            #expect(printed.contains("| failed calls                    |       0 |           0 |"), "\(printed)")
            #expect(try FileManager.default.contentsOfDirectory(atPath: place) == [])
        }
    }

    @Test(.enabled(if: PulsefsProgram.hasTracepoint, "needs the tracepoint fuse:fuse_request_send"))
    func requestsOfATouchAreCounted() throws {
        try withScratchDirectory(in: "/var/tmp") { place in
            let printed = try bench(
                "requests", "--files", "30", "--step", "touch", "--directory", place, "--pulsefs", PulsefsProgram.path)
            #expect(printed.contains("| touch |     400 |"), "\(printed)")
            #expect(printed.contains("FLUSH 100, GETXATTR 100, OPEN 100, WRITE 100"), "\(printed)")
            #expect(try FileManager.default.contentsOfDirectory(atPath: place) == [])
        }
    }
}

@Suite struct TableProgramTests {
    @Test func tableIsMeasuredKeptDrawnAndRendered() throws {
        try withScratchDirectory(in: "/var/tmp") { results in
            let (report, picture) = ("\(results)/report.json", "\(results)/report.svg")
            let printed = try bench(
                "table", "--records", "2000", "--rounds", "1", "--touches", "2000", "--batch", "100", "--save", report)
            #expect(printed.contains("| touch: heartbeat ") && printed.contains("| 100 ids in one query "))
            #expect(try bench("render", report, "--svg", picture) == printed)
            #expect(try readText(picture).hasSuffix("</svg>\n"))
        }
    }
}

/// The pulsefs to test with: `PULSEFS`, else the debug or release build in the repository.
private enum PulsefsProgram {
    static let path: String = {
        if let path = getenv("PULSEFS") { return String(cString: path) }
        let root = ancestor(of: #filePath, 4)
        return ["debug", "release"].map { "\(root)/.build/\($0)/pulsefs" }.first { access($0, X_OK) == 0 } ?? ""
    }()

    /// CI must not pass by skipping.
    static var isUsable: Bool {
        getenv("CI") != nil || (geteuid() == 0 && access("/dev/fuse", R_OK | W_OK) == 0 && access(path, X_OK) == 0)
    }

    /// The kernel has it with CONFIG_FTRACE since Linux 6.11.
    static var hasTracepoint: Bool {
        (try? readText("/proc/filesystems"))?.contains("\ttracefs\n") ?? false
    }
}

/// Runs the debug build of the program and returns what it printed.
private func bench(_ arguments: String...) throws -> String {
    let child = try ChildProcess(["\(ancestor(of: #filePath, 3))/.build/debug/pulsefs-bench"] + arguments)
    let deadline = ContinuousClock.now + .seconds(120)
    while !child.hasEnded() {
        try #require(ContinuousClock.now < deadline, "\(child.name) takes too long")
        usleep(10_000)
    }
    try child.checkStatus()
    return String(decoding: try child.printed(), as: UTF8.self)
}

/// The path without its last components.
private func ancestor(of path: String, _ levels: Int) -> String {
    path.split(separator: "/").dropLast(levels).map { "/\($0)" }.joined()
}
