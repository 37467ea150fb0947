import FoundationEssentials
import Glibc
import SystemPackage

/// Times in µs of touches and reads of a signal file, and of opening an ordinary file.
struct TouchTimes: Codable {
    private(set) var writes: [Double] = []
    private(set) var reads: [Double] = []
    private(set) var opens: [Double] = []

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
    /// Torn reads of no bytes.
    var empty = 0
    /// Torn reads of some bytes.
    var mixed = 0

    /// Torn reads as a share of all reads.
    var share: Double { reads == 0 ? 0 : Double(empty + mixed) / Double(reads) }

    init() {}

    /// One side of a race.
    ///
    /// The writer's documents are made beforehand; each differs much in length from the one before.
    init(of file: GoFile, writing isWriter: Bool, for time: Duration) throws {
        let documents = (0..<128).map { CheckedDocument(number: $0, length: 1 + $0 * 739 % 2_003).bytes }
        let end = ContinuousClock.now + time
        while ContinuousClock.now < end {
            if isWriter {
                try file.write(documents[writes % documents.count])
                writes += 1
            } else {
                let bytes = try file.read()
                if bytes.isEmpty { empty += 1 } else if !CheckedDocument.isWhole(bytes) { mixed += 1 }
                reads += 1
            }
        }
    }

    static func += (left: inout TornReads, right: TornReads) {
        for count in [\TornReads.writes, \.reads, \.empty, \.mixed] { left[keyPath: count] += right[keyPath: count] }
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
/// parent, sizes from 100 bytes to 8 KiB.
func makeTouchFiles(_ files: [String], tree: String, treeFiles: Int) throws -> [String] {
    for file in files {
        try FileManager.default.createDirectory(
            atPath: FilePath(file).removingLastComponent().string, withIntermediateDirectories: true)
        try writeFile(file, CheckedDocument(number: 0).bytes)
    }
    for number in 0..<treeFiles {
        let module = "\(tree)/part\(number / 200)/module\(number / 20)"
        if number % 20 == 0 {
            try FileManager.default.createDirectory(atPath: module, withIntermediateDirectories: true)
        }
        let size = 100 + (number &* 739) % 8_093
        try writeFile("\(module)/source\(number).txt", repeatElement(UInt8(ascii: "x"), count: size))
    }
    return files
}

/// A keepalive document with a checksum, which shows whether it was read back whole.
///
/// It looks like Gas Town's, with a last field that holds a checksum over all bytes before it. Consecutive documents
/// differ in length and content, so a mixture of two is noticed.
struct CheckedDocument {
    let bytes: [UInt8]

    /// `length` is the length of the padding in its command, in bytes.
    ///
    /// It has the present time as its timestamp: pulsefs would replace a future one, and the checksum would not match.
    init(number: Int, length: Int = 16, now: Date = Date()) {
        let timestamp = now.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
        let letter = UInt8(ascii: "a") + UInt8(number % 26)
        let command = String(decoding: repeatElement(letter, count: length), as: UTF8.self)
        let head = Array(#"{"last_command":"gt bench \#(number) \#(command)","timestamp":"\#(timestamp)""#.utf8)
        bytes = head + Self.tail(after: head[...])
    }

    /// Whether these are the bytes of one document.
    static func isWhole(_ bytes: [UInt8]) -> Bool {
        let headCount = bytes.count - tailCount
        return headCount > 0 && bytes[headCount...].elementsEqual(tail(after: bytes[..<headCount]))
    }

    private static let tailCount = #","check":"0123456789abcdef"}"#.utf8.count

    /// The checksum field (64-bit FNV-1a in 16 digits) and the closing brace.
    private static func tail(after head: ArraySlice<UInt8>) -> [UInt8] {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in head { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
        let digits = String(hash, radix: 16)
        let padding = String(repeating: "0", count: 16 - digits.utf8.count)
        return Array(#","check":"\#(padding)\#(digits)"}"#.utf8)
    }
}
