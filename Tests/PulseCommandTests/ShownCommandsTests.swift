import TestSupport
import Testing

extension ParallelEndToEnd {
    /// The commands that README and `--help` show work as they are typed, on an empty directory.
    @Suite struct ShownCommandsTests {
        /// Runs lines of a shell, with other paths; a line that fails ends it.
        private func run(_ lines: [Substring], in town: MountedTown, program: String) throws -> String {
            let pulsefs = BuiltProgram.path
            // What doctor finds depends on the machine.
            let script = lines.map { $0.contains(" doctor ") ? "{ \($0)\n} || [ $? = 1 ]" : "\($0)" }
                .joined(separator: "\n")
                .replacing("~/town", with: town.path).replacing("~/jobs", with: "\(town.scratch.path)/jobs")
                .replacing(program, with: "\(pulsefs) ")
                .replacing("\(pulsefs) mount", with: "\(pulsefs) mount --log \(town.scratch.path)/log")
            let shell = Command(
                "sh", "-ec", script, in: town.scratch.path,
                environment: ["PULSEFS_STATE_DIRECTORY": town.scratch.path], limit: .seconds(120))
            return try shell.output()
        }

        /// The indented lines after a line.
        private func block(after line: String, in text: String, indent: String) throws -> [Substring] {
            let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
            let start = try #require(lines.firstIndex { $0.hasPrefix(line) }, "\(line)")
            let block = lines[(start + 1)...].drop { !$0.hasPrefix(indent) }.prefix { $0.hasPrefix(indent) }
            return block.map { $0.dropFirst(indent.count) }
        }

        @Test func commandsOfTheHelpWork() throws {
            try withTown { town in
                let help = try town.pulsefsCommand(["--help"]).output()
                let lines = try block(after: "pulsefs mounts over a town", in: help, indent: "  ")
                #expect(lines.count == 7, "\(lines)")
                let printed = try run(lines, in: town, program: "pulsefs ")
                #expect(printed.contains(#"{"state":"working","timestamp":""#), "\(printed)")
                #expect(printed.contains("alive    gt-nux"), "\(printed)")
            }
        }

        @Test func commandsOfTheReadmeWork() throws {
            try withTown { town in
                let readme = try Client.read("\(BuiltProgram.sources)/README.md")
                // What mount-scripts/start does.
                let start: [Substring] = [
                    "mkdir -p ~/town/.runtime/heartbeats", ".build/release/pulsefs mount ~/town",
                ]
                let first = try block(after: "Then:", in: readme, indent: "    ")
                #expect(first.count == 8, "\(first)")
                let printed = try run(start + first, in: town, program: ".build/release/pulsefs ")
                #expect(printed.contains("\ngt-nux\n"), "\(printed)")
                // If a line fails.
                defer { _ = try? town.pulsefsCommand(["unmount", "--lazy", "\(town.scratch.path)/jobs"]).run() }
                let second = try block(after: "`.build/release/pulsefs watch ~/town`", in: readme, indent: "    ")
                #expect(second.count == 6, "\(second)")
                #expect(
                    try run(second, in: town, program: ".build/release/pulsefs ").contains("alive    worker-1"))
            }
        }
    }
}
