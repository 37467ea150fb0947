import ArgumentParser
import Daemon
import Glibc
import SystemPackage

/// `pulsefs preset`: what pulsefs knows of tools.
struct PresetCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "preset",
        abstract: "List, show and check presets: what pulsefs knows of tools.",
        discussion: """
            A preset has the signal files of a tool, and how its processes are named. 'pulsefs mount --preset' takes a \
            name or a file. To write your own, begin with a built-in one:

              pulsefs preset show gastown > mine.json5
              pulsefs preset check mine.json5
              pulsefs mount --preset mine.json5 ~/town
            """,
        subcommands: [List.self, Show.self, Check.self])

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List the built-in presets.")

        func run() throws {
            let width = BuiltInPreset.all.map(\.name.count).max() ?? 0
            for builtIn in BuiltInPreset.all {
                let space = String(repeating: " ", count: width - builtIn.name.count + 2)
                print("\(builtIn.name)\(space)\(try builtIn.preset.summary)")
            }
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Print a built-in preset, as a file to copy and edit.")

        @Argument(
            help: ArgumentHelp("A built-in preset.", valueName: "name"),
            completion: .list(BuiltInPreset.all.map(\.name)))
        var name: String

        func run() throws {
            guard let builtIn = BuiltInPreset.named(name) else {
                throw Failure("There is no preset '\(name)'. Built in are \(BuiltInPreset.list).", .usage)
            }
            print(builtIn.text, terminator: "")
        }
    }

    struct Check: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Check files of presets.",
            discussion: "Prints one line for each error: FILE:LINE:COLUMN, and what is wrong.")

        @Argument(help: ArgumentHelp("A file.", valueName: "file"), completion: .file())
        var files: [String]

        func run() throws {
            var isValid = true
            for file in files {
                let lines: [String]
                do {
                    let preset = try PresetText.decode(PresetSource.read(file))
                    lines = ["\(file): the preset '\(preset.name)' is valid."]
                } catch let errors as PresetErrors {
                    lines = errors.lines(for: file)
                    isValid = false
                } catch let error as Errno {
                    lines = ["\(file): cannot be read: \(error)."]
                    isValid = false
                }
                for line in lines { print(TerminalText.printable(line)) }
            }
            if !isValid { throw ExitCode(ExitStatus.failed.rawValue) }
        }
    }
}
