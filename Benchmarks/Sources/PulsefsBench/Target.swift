import ArgumentParser
import FoundationEssentials
import Glibc
import SystemPackage

/// A directory that is measured: a plain one, or one behind a file system that passes through.
struct Target {
    let name: String
    let kind: Kind
    /// The program that mounts it, and the argument of its `-o`.
    var program: String?
    var options: String?
    /// An existing directory to use as it is, instead of a fresh one.
    var directory: String?

    enum Kind {
        case plain
        case pulsefs
        case bindfs
        case mergerfs

        var isPeer: Bool { self == .bindfs || self == .mergerfs }
    }

    static let plain = Target(name: "plain", kind: .plain)

    /// The file systems that pulsefs is compared with.
    ///
    /// bindfs runs with one thread, its default: its manual warns that more threads can show a wrong owner. mergerfs gets
    /// its manual's options for programs that need mmap, as SQLite does, and keeps cached pages between opens.
    static let peers = [
        Target(name: "bindfs", kind: .bindfs, program: "bindfs", options: "no-allow-other"),
        Target(
            name: "mergerfs", kind: .mergerfs, program: "mergerfs",
            options: "use_ino,cache.files=auto-full,category.create=mfs,minfreespace=0"),
    ]

    /// The reason why this target cannot be measured here, found by mounting it once; nil when it can.
    func obstacle(in scratch: String, supervisor: Supervisor) throws -> String? {
        guard isInstalled(program ?? name) else { return "not installed" }
        return try withScratchDirectory(in: scratch) { place in
            do {
                try withDirectory(in: place, supervisor: supervisor) { _ in }
                return nil
            } catch let failure as BenchFailure {
                return failure.description.replacing(place, with: "…")
            }
        }
    }

    /// Its version and mount command, as a line of a report; nil for a plain directory.
    func description(by supervisor: Supervisor) throws -> String? {
        guard let program else { return nil }
        let version = try supervisor.run([program, "--version"]).split(separator: "\n").first
        let option = options.map { " -o \($0)" } ?? ""
        let command = kind == .pulsefs ? "pulsefs mount TOWN\(option)" : "\(name)\(option) BACKING MOUNTPOINT"
        return "- \(name) \(version?.split(separator: " ").last ?? ""): `\(command)`"
    }

    /// Makes the directory in `place`, mounted if that is its kind, while `body` runs.
    func withDirectory<Result>(
        in place: String, supervisor: Supervisor, body: (String) throws -> Result
    ) throws -> Result {
        if let directory { return try body(directory) }
        let directory = try makeDirectory("\(place)/\(name)")
        guard let program else { return try body(directory) }
        let option = options.map { ["-o", $0] } ?? []
        let state = "PULSEFS_STATE_DIRECTORY=\(directory).state"
        var mount = ["env", state, program, "mount", directory, "--log", "\(directory).log"] + option
        var unmount = [program, "unmount", directory]
        if kind.isPeer {
            mount = [program] + option + [try makeDirectory("\(place)/\(name).backing"), directory]
            unmount = ["fusermount3", "-u", directory]
        }
        return try withMount(on: directory, by: supervisor, mount: mount, unmount: unmount) { try body(directory) }
    }
}

/// Makes all the directories in `place`, mounted together, while `body` runs with their paths.
func withTargets<Result>(
    _ targets: some Collection<Target>, in place: String, supervisor: Supervisor, body: ([String]) throws -> Result
) throws -> Result {
    guard let first = targets.first else { return try body([]) }
    return try first.withDirectory(in: place, supervisor: supervisor) { directory in
        try withTargets(targets.dropFirst(), in: place, supervisor: supervisor) { try body([directory] + $0) }
    }
}

/// The options of every subcommand that mounts towns.
struct TownOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The pulsefs to mount with (default: beside this program, else in the repository that it was built in).",
            valueName: "path"))
    var pulsefs: String?
    @Option(name: .customShort("o"), help: ArgumentHelp("Mount options for the town.", valueName: "options"))
    var mountOptions: String?
    @Option(
        help: ArgumentHelp(
            "Another town, with other options or by another program: NAME=OPTIONS, NAME@PROGRAM or "
                + "NAME@PROGRAM=OPTIONS (repeatable).",
            valueName: "variant"))
    var variant: [Variant] = []
    @Option(help: ArgumentHelp("Where the targets are made.", valueName: "dir"))
    var directory: String?
    @Option(help: "Files in the tree.")
    var files = 1_400
    @Option(help: "How long a step may hang before the benchmark gives up.")
    var patienceSeconds = 300.0

    func validate() throws {
        guard files > 0, patienceSeconds > 0 else {
            throw ValidationError("--files and --patience-seconds must be above 0.")
        }
        let reserved = ["plain", "tmpfs", "pulsefs", "bindfs", "mergerfs"]
        guard Set(reserved + variant.map(\.name)).count == reserved.count + variant.count else {
            throw ValidationError("A variant needs a name of its own, unlike \(reserved.joined(separator: ", ")).")
        }
    }

    var supervisor: Supervisor { Supervisor(patience: .seconds(patienceSeconds)) }

    /// The town, then its variants.
    var targets: [Target] {
        get throws {
            let program = try pulsefs ?? builtProgram()
            return [Target(name: "pulsefs", kind: .pulsefs, program: program, options: mountOptions)]
                + variant.map {
                    Target(name: $0.name, kind: .pulsefs, program: $0.program ?? program, options: $0.options)
                }
        }
    }

    private func builtProgram() throws -> String {
        var directory = FilePath(try realPath("/proc/self/exe")).removingLastComponent()
        var program = directory.appending("pulsefs")
        while access(program.string, X_OK) != 0 {
            guard directory.removeLastComponent() else {
                throw BenchFailure("there is no release build of pulsefs: build it, or name one with --pulsefs")
            }
            program = directory.appending(".build/release/pulsefs")
        }
        return program.string
    }
}

/// A further town: `NAME=OPTIONS`, `NAME@PROGRAM` or `NAME@PROGRAM=OPTIONS`.
struct Variant: ExpressibleByArgument, Equatable {
    let name: String
    var program: String?
    var options: String?

    init?(argument: String) {
        let sides = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        let left = sides[0].split(separator: "@", maxSplits: 1, omittingEmptySubsequences: false)
        guard let name = left.first, !name.isEmpty, !name.contains("/") else { return nil }
        self.name = String(name)
        program = left.count > 1 ? String(left[1]) : nil
        options = sides.count > 1 && !sides[1].isEmpty ? String(sides[1]) : nil
        guard program != "", program != nil || sides.count > 1 else { return nil }
    }
}

/// The part of `pulsefs status --json` that the benchmarks need.
struct TownStatus: Decodable {
    let version: String
    let keeperPid: pid_t
    let workerPid: pid_t

    init(of town: String, program: String, supervisor: Supervisor) throws {
        let json = try supervisor.run([program, "status", town, "--json"])
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        self = try decoder.decode(Self.self, from: Data(json.utf8))
    }
}
