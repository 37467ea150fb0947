import FoundationEssentials
import Glibc
import SystemPackage

/// One step on one target, done in a child process whose working directory is the target's.
struct StepRun: Codable {
    let name: String
    let directory: String
    /// The directory with the inputs that all targets share.
    let inputs: String
    /// A directory beside the target, for a step's other output.
    let keep: String
    /// The searched word.
    let pattern: String
    /// The size of the big file, in MiB.
    let megabytes: Int
    /// Counts the FUSE requests of the timed part; then the step is timed once only.
    var counter: RequestCounter?

    struct Outcome: Codable {
        /// In the order in which they were taken.
        var seconds: [Double] = []
        /// What the check printed.
        var check = ""
        /// Requests by opcode, if they were counted.
        var requests: [String: Int] = [:]
    }

    enum Result: Codable {
        case done(Outcome)
        case failed(String)
    }

    /// The file that the work prints to.
    private var out: String { "\(keep)/out" }

    /// Environment variables of the step's scripts, `$NAME` in its programs.
    private var variables: [String: String] {
        [
            "SOURCE": "\(inputs)/source.git", "INPUTS": inputs, "KEEP": keep, "PATTERN": pattern,
            "MEGABYTES": "\(megabytes)", "OUT": out,
        ]
    }

    /// Splits a command at blanks and replaces the names of variables in it.
    func words(of command: String) -> [String] {
        command.split(separator: " ").map { word in
            variables.reduce(String(word)) { $0.replacing("$\($1.key)", with: $1.value) }
        }
    }

    func result() -> Result {
        do { return .done(try perform()) } catch { return .failed("\(error)") }
    }

    /// Prepares, warms up, times and checks.
    private func perform() throws -> Outcome {
        guard let step = TreeStep.named(name) else { throw BenchFailure("there is no step \(name)") }
        guard chdir(directory) == 0 else { throw BenchFailure("cannot enter \(directory)", Errno(rawValue: errno)) }
        for (name, value) in variables { setenv(name, value, 1) }
        var outcome = Outcome()
        let samples = counter == nil ? step.samples : 1
        for run in 0..<samples + (step.isWarm ? 1 : 0) {
            try self.run(["sh", "-e", "-c", step.given], output: "\(keep)/given")
            var seconds = 0.0
            let requests = try counter.map { try $0.count { seconds = try time(of: step.work) } }
            if counter == nil { seconds = try time(of: step.work) }
            if run == 0 && step.isWarm { continue }
            outcome.seconds.append(seconds)
            outcome.requests = requests ?? [:]
        }
        try run(["sh", "-e", "-c", step.check], output: "\(keep)/check")
        outcome.check = try readText("\(keep)/check")
        return outcome
    }

    /// In seconds.
    private func time(of work: TreeStep.Work) throws -> Double {
        let clock = ContinuousClock()
        let time =
            switch work {
            case .program(let command): try run(words(of: command), output: out)
            case .script(let script): try run(["sh", "-e", "-c", script], output: out)
            case .mappedReads(let file, let count): try clock.measure { try readMapped(file, count: count) }
            case .touches(let file, let count):
                try clock.measure {
                    for number in 0..<count { try writeFile(file, CheckedDocument(number: number).bytes) }
                }
            case .reads(let file, let count): try clock.measure { for _ in 0..<count { _ = try readFile(file) } }
            }
        return time / .seconds(1)
    }

    /// The time from the start of a program to its end; output goes to a file: some tools notice /dev/null and do less.
    @discardableResult
    private func run(_ arguments: [String], output: String) throws -> Duration {
        let start = ContinuousClock.now
        let child = try ChildProcess(arguments, outputPath: output, inOwnGroup: false)
        child.wait()
        let time = ContinuousClock.now - start
        try child.checkStatus()
        return time
    }

    /// Maps the file, reads a byte at each of `count` random places, and prints their sum.
    private func readMapped(_ file: String, count: Int) throws {
        let descriptor = try FileDescriptor.open(FilePath(file), .readOnly, options: [.closeOnExec])
        defer { try? descriptor.close() }
        let size = Int(try descriptor.seek(offset: 0, from: .end))
        guard let memory = mmap(nil, size, PROT_READ, MAP_SHARED, descriptor.rawValue, 0), memory != MAP_FAILED else {
            throw BenchFailure("cannot map \(file)", Errno(rawValue: errno))
        }
        defer { munmap(memory, size) }
        var random = SeededGenerator(seed: 1)
        var sum = 0
        for _ in 0..<count {
            sum += Int(memory.load(fromByteOffset: Int.random(in: 0..<size, using: &random), as: UInt8.self))
        }
        try writeFile(out, "\(sum)\n".utf8)
    }
}

/// Makes tools do the same for every user, in this process and its children.
///
/// No configuration of the user or the machine, fixed commit dates, no background work.
func neutralizeEnvironment() {
    let variables = [
        "LC_ALL": "C", "TZ": "UTC", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_COUNT": "3", "GIT_CONFIG_KEY_0": "gc.auto", "GIT_CONFIG_VALUE_0": "0",
        "GIT_CONFIG_KEY_1": "maintenance.auto", "GIT_CONFIG_VALUE_1": "false",
        "GIT_CONFIG_KEY_2": "init.defaultBranch", "GIT_CONFIG_VALUE_2": "main",
        "GIT_AUTHOR_NAME": "bench", "GIT_AUTHOR_EMAIL": "bench@example.invalid",
        "GIT_AUTHOR_DATE": "1700000000 +0000", "GIT_COMMITTER_NAME": "bench",
        "GIT_COMMITTER_EMAIL": "bench@example.invalid", "GIT_COMMITTER_DATE": "1700000000 +0000",
        "GIT_TERMINAL_PROMPT": "0", "GIT_ADVICE": "0",
    ]
    for (name, value) in variables { setenv(name, value, 1) }
}
