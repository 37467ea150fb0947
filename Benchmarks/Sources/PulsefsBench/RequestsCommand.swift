import ArgumentParser
import Glibc

/// `pulsefs-bench requests`: the number of FUSE requests that each step causes.
struct RequestsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "requests",
        abstract: "Counts the FUSE requests of each step, by the kernel's tracepoint.",
        discussion: """
            Does the steps of 'tree', \(TreeStep.signalOperations) touches and as many reads of a signal file, once in a \
            fresh mount of each town and variant, and counts the requests that the kernel sends. RELEASE, RELEASEDIR and \
            FORGET are left out: no process waits for them. Only root may do this, on Linux 6.11 or later.
            """
    )

    @OptionGroup var tree: TreeOptions
    @OptionGroup var output: ReportOutput

    func run() throws {
        let supervisor = tree.towns.supervisor
        let report = try withScratchDirectory(in: tree.directory) { scratch in
            try withTraceInstance(in: scratch, supervisor: supervisor) { instance in
                let watch = Noise.Watch()
                let benchmark = TreeBenchmark(
                    supervisor: supervisor, options: tree, targets: try tree.towns.targets,
                    steps: tree.selected(TreeStep.all + TreeStep.signals), rounds: 1,
                    inputs: try TreeInputs(in: scratch, options: tree, supervisor: supervisor),
                    traceInstance: instance)
                let records = try benchmark.measure(in: scratch)
                let introduction =
                    ["\(benchmark.inputs.description); requests that a process waits for", ""]
                    + (try benchmark.targets.compactMap { try $0.description(by: supervisor) })
                return Self.report(benchmark.targets, records, noise: watch.finish(), introduction: introduction)
            }
        }
        try output.write(report)
    }

    /// The number of requests on all targets, then the first target's by opcode.
    static func report(
        _ targets: [Target], _ records: [TreeBenchmark.Record], noise: Noise, introduction: [String]
    ) -> Report {
        func awaited(_ record: TreeBenchmark.Record, _ target: Int) -> [String: Int] {
            record.requests[target].filter { !RequestCounter.background.contains($0.key) }
        }
        let rows = records.map { record in
            Report.Row(
                record.step.name,
                targets.indices.map { target in
                    record.failures[target] != nil
                        ? .text("failed") : .count(awaited(record, target).values.reduce(0, +))
                })
        }
        let opcodes = records.map { record in
            let counts = awaited(record, 0).sorted { ($1.value, $0.key) < ($0.value, $1.key) }
            return "- \(record.step.name): " + counts.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
        }
        return Report(
            title: "FUSE requests of each step", machine: Machine(), noise: noise, introduction: introduction,
            sections: [
                .init(
                    table: .init(
                        columns: targets.map(\.name), rows: rows, chartColumns: Array(targets.indices))),
                .init(text: "\(targets[0].name), by opcode:"), .init(text: opcodes.joined(separator: "\n")),
            ], axis: "requests, logarithmic; shorter is better",
            failures: records.flatMap { $0.failureLines(targets) })
    }
}

/// Counts the requests that the kernel sends on one FUSE connection, with the tracepoint `fuse:fuse_request_send`.
///
/// FORGET does not pass through the tracepoint. Only root may use it; it exists since Linux 6.11.
struct RequestCounter: Codable {
    /// A tracefs instance, so that other users of tracing are not disturbed.
    let instance: String
    /// The minor device number of the mount.
    let connection: UInt32

    /// The opcodes whose senders do not wait for a reply.
    static let background: Set<String> = ["RELEASE", "RELEASEDIR"]

    private var event: String { "\(instance)/events/fuse/fuse_request_send" }

    /// Runs `body` and returns the number of requests by opcode, such as `GETATTR`.
    func count(_ body: () throws -> Void) throws -> [String: Int] {
        try writeFile("\(event)/filter", "connection == \(connection)".utf8)
        // Opening it with O_TRUNC empties the buffer.
        try writeFile("\(instance)/trace", "\n".utf8)
        try writeFile("\(event)/enable", "1".utf8)
        defer { try? writeFile("\(event)/enable", "0".utf8) }
        try body()
        try writeFile("\(event)/enable", "0".utf8)
        return try Self.requests(in: try readText("\(instance)/trace"))
    }

    /// Parses lines like `… fuse_request_send: connection 42 req 2 opcode 14 (FUSE_OPEN) len 48`.
    static func requests(in trace: String) throws -> [String: Int] {
        var counts: [String: Int] = [:]
        for line in trace.split(separator: "\n") {
            if line.hasPrefix("# entries-in-buffer/entries-written: ") {
                let numbers = line.split(separator: " ")[2].split(separator: "/")
                guard numbers.count == 2, numbers[0] == numbers[1] else {
                    throw BenchFailure("the trace buffer was too small: \(line)")
                }
            } else if let opcode = line.firstRange(of: " opcode "), line.contains(" fuse_request_send: ") {
                let rest = line[opcode.upperBound...]
                let name = rest.split { $0 == "(" || $0 == ")" }.dropFirst().first ?? rest
                // The kernel's list of names lacks the opcode of Linux 6.18.
                counts[name == "0x35" ? "COPY_FILE_RANGE_64" : String(name.trimmingPrefix("FUSE_")), default: 0] += 1
            }
        }
        return counts
    }
}

/// Makes a tracefs instance for `RequestCounter` while `body` runs; `scratch` is where tracefs is mounted if need be.
func withTraceInstance<Result>(
    in scratch: String, supervisor: Supervisor, body: (String) throws -> Result
) throws -> Result {
    guard geteuid() == 0 else { throw BenchFailure("only root may count requests by the kernel's tracepoint") }
    let mounted = try Mount.all().first { $0.type == "tracefs" }?.mountpoint
    let tracefs = try mounted ?? makeDirectory("\(scratch)/tracing")
    if mounted == nil { try supervisor.run(["mount", "-t", "tracefs", "none", tracefs], uninterrupted: true) }
    defer {
        if mounted == nil {
            do { try supervisor.run(["umount", tracefs], uninterrupted: true) } catch { warn("\(error)") }
        }
    }
    guard access("\(tracefs)/events/fuse/fuse_request_send", F_OK) == 0 else {
        throw BenchFailure("this kernel has no tracepoint fuse:fuse_request_send")
    }
    let instance = try makeDirectory("\(tracefs)/instances/pulsefs-bench-\(getpid())")
    defer { if rmdir(instance) != 0 { warn("cannot remove \(instance)") } }
    try writeFile("\(instance)/buffer_size_kb", "16384".utf8)
    return try body(instance)
}
