import Testing

@testable import PulseBench

@Suite struct StepTests {
    @Test func namesOfVariablesInAProgramAreReplaced() {
        let variables = StepVariables(inputs: "/in puts", keep: "/keep", pattern: "word", megabytes: 8)
        #expect(
            variables.words(of: "git clone -q file://$SOURCE clone $MEGABYTES")
                == ["git", "clone", "-q", "file:///in puts/source.git", "clone", "8"])
        #expect(variables.environment["PATTERN"] == "word" && variables.environment["LC_ALL"] == "C")
    }

    @Test func stepsHaveNamesOfTheirOwnAndAllAreChecked() {
        #expect(Set(TreeStep.all.map(\.name)).count == TreeStep.all.count)
        for step in TreeStep.all {
            #expect(!step.check.isEmpty && !step.summary.isEmpty && step.samples > 0, "\(step.name)")
            #expect(TreeStep.named(step.name) != nil)
        }
    }

    @Test func sameSeedMakesTheSameRepository() {
        let stream = SeededRepository(seed: 7, files: 30).fastImportStream()
        #expect(stream == SeededRepository(seed: 7, files: 30).fastImportStream())
        #expect(stream != SeededRepository(seed: 8, files: 30).fastImportStream())
    }

    @Test(arguments: [
        ("fast=ttl=90s,no-attribution", "fast", nil, "ttl=90s,no-attribution"),
        ("old@/opt/pulsefs", "old", "/opt/pulsefs", nil),
        ("old@/opt/pulsefs=ttl=90s", "old", "/opt/pulsefs", "ttl=90s"),
        ("same=", "same", nil, nil),
    ]) func variantNamesOptionsOrAProgram(text: String, name: String, program: String?, options: String?) throws {
        let variant = try #require(TreeVariant(argument: text))
        #expect(variant.name == name && variant.program == program && variant.options == options)
    }

    @Test(arguments: ["", "=a", "name", "name@", "a/b=c"]) func variantThatSaysNothingIsRefused(text: String) {
        #expect(TreeVariant(argument: text) == nil)
    }

    @Test(arguments: [
        ["--step", "knitting"], ["--target", "ext4"], ["--rounds", "0"], ["--variant", "plain=x"],
        ["--variant", "a=x", "--variant", "a=y"],
    ]) func commandLineThatMakesNoSenseIsRefused(arguments: [String]) {
        #expect(throws: (any Error).self) { try TreeCommand.parse(arguments) }
    }
}
