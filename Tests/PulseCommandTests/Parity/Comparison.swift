import CLinux
import Glibc
import SystemPackage
import Testing

/// Makes the same calls in a plain and in a mounted directory and reports differences.
///
/// Used on a `CallerThread`.
struct Comparison: Sendable {
    let arrangement: Arrangement
    /// The parent directories of stages: plain, mounted, and the mounted one's backing directory.
    private let plain: String
    private let mounted: String
    private let backing: String

    /// Mounts a town and calls `body` with a comparison.
    ///
    /// - Parameter limit: See `withMountedTown`.
    static func registerBackingFile(_ arrangement: Arrangement, limit: Duration, _ body: (Comparison) throws -> Void)
        throws
    {
        // Opened before the mount, so it leads to the backing tree.
        var ground: FileDescriptor?
        defer { if let ground { try? Client.close(ground) } }
        try withMountedTown(
            options: arrangement.options, as: arrangement.user, limit: limit,
            prepare: { path in ground = try Client.open(arrangement.ground(of: path), O_PATH | O_DIRECTORY) }
        ) { town in
            let descriptor = try #require(ground).rawValue
            try body(
                Comparison(
                    arrangement: arrangement,
                    plain: try town.scratch.directory("plain", owner: arrangement.user),
                    mounted: arrangement.ground(of: town.path), backing: "/proc/\(getpid())/fd/\(descriptor)"))
        }
    }

    struct Difference {
        /// The number of lines up to the difference.
        let lineCount: Int
        let description: String
    }

    /// The first difference; nil if there is none.
    ///
    /// - Parameters:
    ///   - number: The stage's number, unique for each comparison of a mount.
    ///   - interval: The number of lines after which the trees are compared, besides at the end.
    func difference(in lines: [Scenario.Line], number: Int, every interval: Int = .max) throws -> Difference? {
        let stage = arrangement.stage(for: number)
        try clear(stage, for: number)
        // Taken before the stages are made: making the mounted one may take long.
        let start = FileTime.now
        let document = KeepaliveDocument.text("gt")
        for tree in [plain, mounted] { try prepare(stage, with: document, in: tree) }
        let expected = try Play(in: "\(plain)/\(stage.directory)", as: arrangement.owner, since: start)
        defer { expected.interpreter.finish() }
        let actual = try Play(in: "\(mounted)/\(stage.directory)", as: arrangement.owner, since: start)
        defer { actual.interpreter.finish() }

        for first in stride(from: 0, to: lines.count, by: min(interval, lines.count)) {
            let part = lines[first..<min(lines.count, first + min(interval, lines.count))]
            try expected.perform(part)
            try actual.perform(part)
            if let index = lines.indices.first(where: { index in
                index < part.endIndex && expected.outcomes[index] != actual.outcomes[index]
            }) {
                let words = words(of: lines[...index], expected.outcomes, actual.outcomes)
                return Difference(lineCount: index + 1, description: words)
            }
            let manifest = try expected.manifest()
            for (tree, other) in [
                ("mounted", try actual.manifest()),
                ("backing", try Manifest.lines(of: "\(backing)/\(stage.directory)", since: start)),
            ] where other != manifest {
                let words = words(of: lines[..<part.endIndex], expected.outcomes, actual.outcomes)
                return Difference(
                    lineCount: part.endIndex,
                    description: "\(words)\n  the trees differ:\n\(Self.words(of: other, called: tree, and: manifest))")
            }
        }
        return nil
    }

    // MARK: One tree

    /// One of the two trees.
    private final class Play {
        let interpreter: Interpreter
        private(set) var outcomes: [String] = []

        init(in directory: String, as owner: TestUser, since start: FileTime) throws {
            interpreter = try Interpreter(in: directory, as: owner, since: start)
        }

        func perform(_ lines: ArraySlice<Scenario.Line>) throws {
            try interpreter.enter()
            for line in lines { outcomes.append(try interpreter.perform(line)) }
            try interpreter.flushMappings()
        }

        func manifest() throws -> [String] {
            try CallerThread.become(interpreter.owner)
            return try Manifest.lines(of: interpreter.directory, since: interpreter.start)
        }
    }

    /// Makes a stage, with all permissions for everyone.
    private func prepare(_ stage: Arrangement.Stage, with document: String, in tree: String) throws {
        try CallerThread.become(arrangement.owner)
        var directory = tree
        for name in stage.directory.split(separator: "/") {
            directory += "/\(name)"
            if mkdir(directory, 0o755) == -1, errno != EEXIST { throw Errno(rawValue: errno) }
        }
        try Client.changeMode(directory, 0o777)
        guard let signal = stage.signal else { return }
        let file = try Client.openForWriting("\(directory)/\(signal)")
        defer { try? Client.close(file) }
        try Client.write(document, to: file)
        // Its write-back must not change the directory later.
        try Client.synchronize(file)
    }

    /// A reused stage must be empty, so the remains of its last use are moved away.
    private func clear(_ stage: Arrangement.Stage, for number: Int) throws {
        guard stage.signal != nil, let top = stage.directory.split(separator: "/").first else { return }
        try CallerThread.become(arrangement.owner)
        for tree in [plain, mounted] where Client.exists("\(tree)/\(top)") {
            try Client.rename("\(tree)/\(top)", to: "\(tree)/before-\(number)")
        }
    }

    // MARK: Messages

    private func words(of lines: ArraySlice<Scenario.Line>, _ plain: [String], _ mounted: [String]) -> String {
        lines.indices.map { index in
            let line = "  \(lines[index].text)  -> \(plain[index])"
            return plain[index] == mounted[index] ? line : "\(line)\n      but mounted  -> \(mounted[index])"
        }.joined(separator: "\n")
    }

    private static func words(of manifest: [String], called tree: String, and plain: [String]) -> String {
        manifest.difference(from: plain).prefix(10).map { change in
            switch change {
            case .insert(_, let line, _): "  \(tree): \(line)"
            case .remove(_, let line, _): "  plain:   \(line)"
            }
        }.joined(separator: "\n")
    }
}
