import Glibc
import TestSupport
import Testing

extension ParallelEndToEnd {
    /// `pulsefs-bench` as a whole, in sizes too small for meaningful figures.
    @Suite(.needs("git", "sqlite3", "make", "cc")) struct BenchTests {
        /// The program that was built with these tests.
        private static let program = BuiltProgram.debug + "-bench"

        @Test func everyStepOfTreeSucceedsAndNothingIsLeft() throws {
            try TemporaryDirectory.with { scratch in
                let place = try scratch.directory("pulsefs-place")
                let (report, picture) = ("\(scratch.path)/report.json", "\(scratch.path)/report.svg")
                let run = try Command(
                    Self.program, "tree", "--rounds", "1", "--files", "30", "--megabytes", "1", "--target", "pulsefs",
                    "--directory", place, "--save", report, "--svg", picture, limit: .seconds(60)
                ).run()
                #expect(run.status == 0, "\(run)")
                for step in ["git clone", "git status", "tar x", "SQLite WAL", "mmap", "C build", "rm -rf"] {
                    #expect(run.output.contains("| \(step) "), "\(step)")
                }
                #expect(!run.output.contains("failed"), "\(run)")
                #expect(try Command(Self.program, "render", report).output() == run.output)
                #expect(try Command("cat", picture).output().hasSuffix("</svg>\n"))
                #expect(try Command("ls", "-A", place).output() == "")
            }
        }

        @Test func touchMeasuresClientsAndOneCoreAndNothingIsLeft() throws {
            try TemporaryDirectory.with { scratch in
                let place = try scratch.directory("pulsefs-place")
                let run = try Command(
                    Self.program, "touch", "--rounds", "1", "--samples", "5", "--torn-seconds", "0.05",
                    "--idle-seconds",
                    "0", "--files", "5", "--clients", "2", "--client-seconds", "0.05", "--bursts", "1", "--directory",
                    place, "--tmpfs", place, limit: .seconds(60)
                ).run()
                #expect(run.status == 0, "\(run)")
                for part in ["Caller and worker both on core", "2 clients at once", "CPU time of the worker"] {
                    #expect(run.output.contains(part), "\(part)")
                }
                #expect(try Command("ls", "-A", place).output() == "")
            }
        }

        @Test func tableIsMeasuredKeptDrawnAndShownAgain() throws {
            try TemporaryDirectory.with { scratch in
                let (report, picture) = ("\(scratch.path)/report.json", "\(scratch.path)/report.svg")
                let run = try Command(
                    Self.program, "table", "--records", "2000", "--rounds", "1", "--touches", "500", "--batch", "100",
                    "--save", report, "--svg", picture, limit: .seconds(60)
                ).run()
                #expect(run.status == 0, "\(run)")
                #expect(run.output.contains("| touch: heartbeat ") && run.output.contains("| 100 ids asked at once "))
                #expect(try Command(Self.program, "render", report).output() == run.output)
                #expect(try Command("cat", picture).output().hasSuffix("</svg>\n"))
            }
        }
    }
}
