import FoundationEssentials
import Glibc
import SystemPackage

/// A step done on one target, in a process of its own whose working directory is the target's.
struct StepRun {
    let step: TreeStep
    let variables: StepVariables

    /// How it went.
    struct Outcome: Codable {
        /// The samples, in the order in which they were taken.
        let seconds: [Double]
        /// What the check printed.
        let check: String
    }

    /// What its process reports.
    enum Result: Codable {
        case done(Outcome)
        case failed(String)
    }

    /// Prepares, warms, times and checks; throws when any of that fails.
    func perform() throws -> Outcome {
        if step.isWarm {
            try run(script: step.given)
            try timed()
        }
        var seconds: [Double] = []
        for _ in 0..<step.samples {
            try run(script: step.given)
            seconds.append(try timed() / .seconds(1))
        }
        let printed = "\(variables.keep)/check"
        try run(script: step.check, output: printed)
        let check = try GoFile(path: printed).read()
        return Outcome(seconds: seconds, check: String(decoding: check, as: UTF8.self))
    }

    @discardableResult
    private func timed() throws -> Duration {
        switch step.work {
        case .program(let command): try run(variables.words(of: command), output: variables.out)
        case .script(let script): try run(script: script, output: variables.out)
        case .mappedReads(let file, let count): try mappedReads(of: file, count: count)
        }
    }

    @discardableResult
    private func run(script: String, output: String? = nil) throws -> Duration {
        try run(["sh", "-e", "-c", script], output: output ?? "\(variables.out).given")
    }

    /// From the moment it is started to the moment it has ended; its output goes to a file, never to /dev/null, which some
    /// tools notice and then do less.
    private func run(_ arguments: [String], output: String) throws -> Duration {
        let descriptor = try FileDescriptor.open(
            FilePath(output), .writeOnly, options: [.create, .truncate, .closeOnExec], permissions: [.ownerReadWrite])
        defer { try? descriptor.close() }
        let environment = variables.environment
        let clock = ContinuousClock()
        let start = clock.now
        let pid = try spawn(arguments, output: descriptor, group: .inherited, environment: environment)
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0, errno == EINTR {}
        let time = start.duration(to: clock.now)
        guard status == 0 else {
            let cause =
                status & 0x7f == 0 ? "ended with \(status >> 8 & 0xff)" : "was killed by signal \(status & 0x7f)"
            throw BenchFailure("\(step.name): \(arguments.joined(separator: " ")) \(cause)")
        }
        return time
    }

    /// Maps the file, reads a byte in each of `count` places, and prints their sum.
    private func mappedReads(of file: String, count: Int) throws -> Duration {
        let clock = ContinuousClock()
        let start = clock.now
        let descriptor = try FileDescriptor.open(FilePath(file), .readOnly, options: [.closeOnExec])
        defer { try? descriptor.close() }
        let size = Int(try descriptor.seek(offset: 0, from: .end))
        guard let memory = mmap(nil, size, PROT_READ, MAP_SHARED, descriptor.rawValue, 0), memory != MAP_FAILED else {
            throw BenchFailure("cannot map \(file)", Errno(rawValue: errno))
        }
        var random = SeededGenerator(seed: 1)
        var sum = 0
        for _ in 0..<count {
            sum += Int(memory.load(fromByteOffset: Int.random(in: 0..<size, using: &random), as: UInt8.self))
        }
        munmap(memory, size)
        let time = start.duration(to: clock.now)
        try GoFile(path: variables.out).write(Array("\(sum)\n".utf8))
        return time
    }
}
