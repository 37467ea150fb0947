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

    @Test func manualPageHasEveryCommandAndOption() {
        let page = Manual.page
        for command in PulseFS.configuration.subcommands where command.configuration.shouldDisplay {
            let name = command.configuration.commandName ?? command._commandName
            #expect(page.contains(".SS \"pulsefs \(name)\""), "\(name)")
        }
        let options = [
            "<town>", "<id>", "\\-\\-ttl <duration>", "\\-\\-json", "\\-o <opt,opt>", "\\-\\-lazy",
            "\\-\\-runtime\\-ids <file>",
        ]
        for option in options { #expect(page.contains("\\fB\(option)\\fR"), "\(option)") }
        #expect(!page.contains("pulsefs keeper") && !page.contains("\\-\\-help"))
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
