import CLinux
import Glibc
import SystemPackage

/// Plays scenarios in a plain directory and in a mounted one, and says where they part.
///
/// To be used on a `CallerThread`.
struct Comparison {
    let arrangement: Arrangement
    /// Roots: of the plain tree, of the mounted one, and of what is beneath the mount.
    let plain: String
    let mounted: String
    let beneath: String

    init(_ arrangement: Arrangement, town: MountedTown) throws {
        self.arrangement = arrangement
        plain = try town.scratch.directory("plain", owner: arrangement.user)
        mounted = town.path
        beneath = town.beneath
    }

    /// What came of one scenario in one tree.
    private struct Transcript {
        var outcomes: [String] = []
        var manifest: [String] = []
        var start = FileTime.now
    }

    /// The first difference, in words; nil if there is none.
    func difference(in scenario: Scenario, number: Int) throws -> String? {
        let stage = arrangement.stage(for: number)
        try clear(stage)
        let document = KeepaliveDocument.text("gt")
        let expected = try play(scenario, on: stage, with: document, in: plain)
        let actual = try play(scenario, on: stage, with: document, in: mounted)
        let beneath = try Manifest.lines(of: "\(beneath)/\(stage.directory)", since: actual.start)
        if let index = scenario.lines.indices.first(where: { expected.outcomes[$0] != actual.outcomes[$0] }) {
            return lines(of: scenario, through: index, expected.outcomes, actual.outcomes)
        }
        for (tree, manifest) in [("mounted", actual.manifest), ("beneath", beneath)]
        where manifest != expected.manifest {
            return Self.difference(of: manifest, called: tree, from: expected.manifest)
        }
        return nil
    }

    // MARK: One tree

    private func play(
        _ scenario: Scenario, on stage: Arrangement.Stage, with document: String, in tree: String
    ) throws -> Transcript {
        let directory = "\(tree)/\(stage.directory)"
        try prepare(stage, with: document, in: tree)
        let interpreter = try Interpreter(in: directory, as: arrangement.owner)
        var transcript = Transcript(start: interpreter.start)
        do {
            defer { interpreter.finish() }
            try interpreter.enter()
            for line in scenario.lines { transcript.outcomes.append(try interpreter.perform(line)) }
        }
        transcript.manifest = try Manifest.lines(of: directory, since: interpreter.start)
        return transcript
    }

    /// Makes a stage, where everybody may do everything.
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
        // Its write-down must not change the directory later on.
        try Client.synchronize(file)
    }

    /// Stages that are used again must be as new.
    private func clear(_ stage: Arrangement.Stage) throws {
        guard stage.signal != nil, let top = stage.directory.split(separator: "/").first else { return }
        try CallerThread.become(arrangement.owner)
        for tree in [plain, mounted] where Client.exists("\(tree)/\(top)") {
            try Manifest.removeTree(FilePlace("\(tree)/\(top)"))
        }
    }

    // MARK: In words

    private func lines(of scenario: Scenario, through index: Int, _ plain: [String], _ mounted: [String]) -> String {
        let lines = (0...index).map { index in
            let line = "  \(scenario.lines[index].text)  -> \(plain[index])"
            return plain[index] == mounted[index] ? line : "\(line)\n      but mounted  -> \(mounted[index])"
        }
        return lines.joined(separator: "\n")
    }

    private static func difference(of manifest: [String], called tree: String, from plain: [String]) -> String {
        let changes = manifest.difference(from: plain).prefix(10).map { change in
            switch change {
            case .insert(_, let line, _): "  \(tree): \(line)"
            case .remove(_, let line, _): "  plain:   \(line)"
            }
        }
        return "  all calls agree, and the trees differ:\n" + changes.joined(separator: "\n")
    }
}
