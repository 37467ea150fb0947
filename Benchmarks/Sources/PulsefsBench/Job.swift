import ArgumentParser
import FoundationEssentials

/// The work of a child process: everything that touches a measured directory.
enum Job: Codable {
    /// Makes signal files, ordinary files and a tree. Returns the files.
    case makeFiles([String], tree: String, treeFiles: Int)
    /// Returns `TouchTimes`.
    case touchTimes(file: String, ordinary: String, samples: Int)
    /// One of several simultaneous clients. Returns `TouchTimes`.
    case client(file: String, start: ContinuousClock.Instant, seconds: Double)
    /// Returns the CPU time in µs of `process` after each burst.
    case bursts(file: String, touches: Int, process: Int32, seconds: Double, bursts: Int)
    /// The writer or the reader of a race. Returns `TornReads`.
    case race(file: String, isWriter: Bool, seconds: Double)
    /// Returns the count.
    case touch(file: String, count: Int)
    /// Returns `SurvivalWork`.
    case survive(directory: String, signal: String, stop: String, seed: UInt64)
    /// Returns `EventCounts`.
    case readEvents(of: String, until: String)
    /// Returns `RealWork`.
    case realWork(directory: String, stop: String?, rounds: Int?)
    /// Returns `StepRun.Result`.
    case step(StepRun)

    fileprivate func run() throws -> any Encodable {
        switch self {
        case .makeFiles(let files, let tree, let treeFiles):
            try makeTouchFiles(files, tree: tree, treeFiles: treeFiles)
        case .touchTimes(let file, let ordinary, let samples):
            try TouchTimes(of: GoFile(file), ordinary: GoFile(ordinary), samples: samples)
        case .client(let file, let start, let seconds):
            try TouchTimes(of: GoFile(file), from: start, for: .seconds(seconds))
        case .bursts(let file, let touches, let process, let seconds, let bursts):
            try cpuTimeAfterBursts(
                of: touches, on: GoFile(file), process: process, window: .seconds(seconds), bursts: bursts)
        case .race(let file, let isWriter, let seconds):
            try TornReads(of: GoFile(file), writing: isWriter, for: .seconds(seconds))
        case .touch(let file, let count):
            try (0..<count).reduce(0) { done, _ in
                try GoFile(file).write(Array("{}".utf8))
                return done + 1
            }
        case .survive(let directory, let signal, let stop, let seed):
            try SurvivalWork(in: directory, signal: signal, until: stop, seed: seed)
        case .readEvents(let town, let last):
            try EventCounts(of: town, until: last)
        case .realWork(let directory, let stop, let rounds):
            try RealWork(in: directory, until: stop, rounds: rounds)
        case .step(let step):
            step.result()
        }
    }
}

/// The hidden subcommand that runs a job and prints its result as JSON.
struct ChildCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "child", abstract: "Runs a part of a benchmark in a process of its own.", shouldDisplay: false)

    @Argument var job: String

    func run() throws {
        let result = try JSONDecoder().decode(Job.self, from: Data(job.utf8)).run()
        print(String(decoding: try JSONEncoder().encode(result), as: UTF8.self))
    }
}
