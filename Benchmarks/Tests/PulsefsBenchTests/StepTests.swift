import Testing

@testable import PulsefsBench

@Suite struct StepTests {
    @Test func namesOfVariablesInAProgramAreReplaced() {
        let step = StepRun(
            name: "git clone", directory: "/", inputs: "/in puts", keep: "/keep", pattern: "word", megabytes: 8)
        #expect(
            step.words(of: "git clone -q file://$SOURCE clone $MEGABYTES")
                == ["git", "clone", "-q", "file:///in puts/source.git", "clone", "8"])
        #expect(step.words(of: "grep $PATTERN $KEEP $OUT") == ["grep", "word", "/keep", "/keep/out"])
    }

    @Test func stepsHaveDistinctNamesAndAreChecked() {
        let steps = TreeStep.all + TreeStep.signals
        #expect(Set(steps.map(\.name)).count == steps.count)
        for step in steps { #expect(!step.check.isEmpty && step.samples > 0, "\(step.name)") }
    }

    @Test func sameSeedMakesTheSameRepository() {
        let stream = SeededRepository(seed: 7, files: 30).fastImportStream()
        #expect(stream == SeededRepository(seed: 7, files: 30).fastImportStream())
        #expect(stream != SeededRepository(seed: 8, files: 30).fastImportStream())
    }

    @Test func mixtureOfTwoDocumentsIsNoticed() {
        let (one, other) = (CheckedDocument(number: 1, length: 9).bytes, CheckedDocument(number: 2, length: 40).bytes)
        #expect(CheckedDocument.isWhole(one) && !CheckedDocument.isWhole([]))
        #expect(!CheckedDocument.isWhole(Array(one.dropLast())))
        #expect(!CheckedDocument.isWhole(Array(one.prefix(30)) + Array(other.dropFirst(30))))
    }

    @Test(arguments: [
        ("fast=ttl=90s,no-attribution", "fast", nil, "ttl=90s,no-attribution"),
        ("old@/opt/pulsefs", "old", "/opt/pulsefs", nil),
        ("old@/opt/pulsefs=ttl=90s", "old", "/opt/pulsefs", "ttl=90s"),
        ("same=", "same", nil, nil),
    ]) func variantNamesOptionsOrAProgram(text: String, name: String, program: String?, options: String?) throws {
        let variant = try #require(Variant(argument: text))
        #expect(variant.name == name && variant.program == program && variant.options == options)
    }

    @Test(arguments: ["", "=a", "name", "name@", "a/b=c"]) func variantWithoutOptionsOrProgramIsRefused(text: String) {
        #expect(Variant(argument: text) == nil)
    }

    @Test(arguments: [
        ["--step", "knitting"], ["--target", "ext4"], ["--rounds", "0"], ["--variant", "plain=x"],
        ["--variant", "a=x", "--variant", "a=y"],
    ]) func invalidCommandLineIsRefused(arguments: [String]) {
        #expect(throws: (any Error).self) { try TreeCommand.parse(arguments) }
    }
}
