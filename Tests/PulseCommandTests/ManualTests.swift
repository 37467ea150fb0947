import Glibc
import TestSupport
import Testing

@testable import PulseCommand

/// Files generated from the command's help.
@Suite struct ManualTests {
    @Test(.needs("mandoc", "groff")) func manualPageIsRoffWithoutAFault() throws {
        try TemporaryDirectory.with { scratch in
            let page = try Command(BuiltProgram.path, "manual").output()
            let file = "\(scratch.path)/pulsefs.1"
            try Client.write(page, to: file)
            let lint = try Command("mandoc", "-T", "lint", file).run()
            #expect(lint.output == "" && lint.errors == "", "\(lint)")
            let groff = try Command("groff", "-man", "-ww", "-z", file).run()
            #expect(groff.output == "" && groff.errors == "", "\(groff)")
        }
    }

    @Test func manualPageHasEveryCommandAndOption() throws {
        let page = try #require(Manual.page(help: PulseFS._dumpHelp()))
        for command in PulseFS.configuration.subcommands where command.configuration.shouldDisplay {
            let name = command.configuration.commandName ?? command._commandName
            #expect(page.contains(".SS \"pulsefs \(name)\""), "\(name)")
        }
        for option in ["\\fB\\-\\-ttl\\fR", "\\fB\\-\\-json\\fR", "\\fB\\-o\\fR", "\\fB\\-\\-lazy\\fR"] {
            #expect(page.contains(option))
        }
        #expect(!page.contains("keeper\\fR") && !page.contains("--help"))
        #expect(Manual.page(help: "{}") == nil)
    }

    @Test(arguments: ["bash", "zsh", "fish"]) func completionsAreGenerated(shell: String) throws {
        let script = try Command(BuiltProgram.path, "--generate-completion-script", shell).output()
        #expect(script.contains("doctor"))
        guard isInstalled(shell) else { return }
        try TemporaryDirectory.with { scratch in
            try Client.write(script, to: "\(scratch.path)/script")
            try Command(shell, "-n", "\(scratch.path)/script").output()
        }
    }
}
