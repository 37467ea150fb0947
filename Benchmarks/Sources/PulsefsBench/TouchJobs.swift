import Glibc
import SystemPackage

/// Times in µs of touches and reads of a signal file, and of opening an ordinary file.
struct TouchTimes: Codable {
    private(set) var writes: [Double] = []
    private(set) var reads: [Double] = []
    private(set) var opens: [Double] = []

    init(writes: [Double] = [], reads: [Double] = [], opens: [Double] = []) {
        (self.writes, self.reads, self.opens) = (writes, reads, opens)
    }

    /// One kind of operation after the other, by a single client.
    init(of file: GoFile, ordinary: GoFile, samples: Int) throws {
        func times(_ operation: ([UInt8]) throws -> Void) throws -> [Double] {
            // Twenty untimed runs come first: they fill caches and load code.
            try (0..<20 + samples).map { number in
                let document = CheckedDocument(number: number).bytes
                return try ContinuousClock().measure { try operation(document) }.microseconds
            }.suffix(samples)
        }
        writes = try times { try file.write($0) }
        reads = try times { _ in _ = try file.read() }
        opens = try times { _ in try ordinary.openAndClose() }
    }

    /// Writes and reads in turn from `start`, the same instant for all of several clients.
    init(of file: GoFile, from start: ContinuousClock.Instant, for time: Duration) throws {
        let clock = ContinuousClock()
        sleep(until: start)
        while clock.now < start + time {
            let document = CheckedDocument(number: writes.count).bytes
            writes.append(try clock.measure { try file.write(document) }.microseconds)
            reads.append(try clock.measure { _ = try file.read() }.microseconds)
        }
    }
}

/// The outcome of one reader and one writer that race on a file; a read is torn unless it returns one whole document.
struct TornReads: Codable {
    var writes = 0
    var reads = 0
    var empty = 0
    var unparsable = 0
    var mixed = 0

    /// Torn reads as a share of all reads.
    var share: Double { reads == 0 ? 0 : Double(empty + unparsable + mixed) / Double(reads) }

    init() {}

    /// The writer's part; the documents are made beforehand; each differs much in length from the one before.
    init(writing file: GoFile, for time: Duration) throws {
        let documents = (0..<128).map { CheckedDocument(number: $0, length: 1 + $0 * 739 % 2_003).bytes }
        let end = ContinuousClock.now + time
        while ContinuousClock.now < end {
            try file.write(documents[writes % documents.count])
            writes += 1
        }
    }

    /// The reader's part.
    init(reading file: GoFile, for time: Duration) throws {
        let end = ContinuousClock.now + time
        while ContinuousClock.now < end {
            switch CheckedDocument.outcome(of: try file.read()) {
            case .whole: break
            case .empty: empty += 1
            case .unparsable: unparsable += 1
            case .mixed: mixed += 1
            }
            reads += 1
        }
    }

    static func += (left: inout TornReads, right: TornReads) {
        for count in [\TornReads.writes, \.reads, \.empty, \.unparsable, \.mixed] {
            left[keyPath: count] += right[keyPath: count]
        }
    }
}

/// The CPU time in µs that `process` uses in the window that begins 1 ms after each burst of touches.
///
/// It shows a worker that polls or defers work. The client measures it, because it knows the end of its burst best.
func cpuTimeAfterBursts(
    of touches: Int, on file: GoFile, process: pid_t, window: Duration, bursts: Int
) throws -> [Double] {
    try (0..<bursts).map { burst in
        for touch in 0..<touches { try file.write(CheckedDocument(number: burst * touches + touch).bytes) }
        sleep(until: .now + .milliseconds(1))
        let before = try cpuTime(of: process)
        sleep(until: .now + window)
        return (try cpuTime(of: process) - before).microseconds
    }
}

/// The CPU time of all threads of a process so far.
///
/// The corresponding C function is `clock_getcpuclockid`.
func cpuTime(of process: pid_t) throws -> Duration {
    var clock = clockid_t()
    var time = timespec()
    let code = clock_getcpuclockid(process, &clock)
    guard code == 0, clock_gettime(clock, &time) == 0 else {
        throw BenchFailure("cannot read the CPU time of process \(process)", Errno(rawValue: code == 0 ? errno : code))
    }
    return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
}

private func sleep(until instant: ContinuousClock.Instant) {
    // usleep(3) ends early on a signal.
    while case let left = ContinuousClock.now.duration(to: instant), left > .zero {
        usleep(useconds_t(left.microseconds) + 1)
    }
}

/// Makes files with a first document and a tree of small files: twenty files to a directory, ten directories to a
/// parent, sizes from 100 bytes to 8 KiB; returns the directories made for the files, outermost first.
func makeTouchFiles(_ files: [String], tree: String, treeFiles: Int) throws -> [String] {
    var made: [String] = []
    for file in files {
        for (offset, character) in file.enumerated().dropFirst() where character == "/" {
            let directory = String(file.prefix(offset))
            if mkdir(directory, 0o755) == 0 {
                made.append(directory)
            } else if errno != EEXIST {
                throw BenchFailure("cannot make \(directory)", Errno(rawValue: errno))
            }
        }
        try writeFile(file, CheckedDocument(number: 0).bytes)
    }
    if treeFiles > 0 { try makeDirectory(tree) }
    for number in 0..<treeFiles {
        let part = "\(tree)/part\(number / 200)"
        let module = "\(part)/module\(number / 20)"
        if number % 200 == 0 { try makeDirectory(part) }
        if number % 20 == 0 { try makeDirectory(module) }
        let size = 100 + (number &* 739) % 8_093
        try writeFile("\(module)/source\(number).txt", repeatElement(UInt8(ascii: "x"), count: size))
    }
    return made
}
