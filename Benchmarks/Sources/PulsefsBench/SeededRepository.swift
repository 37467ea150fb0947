import Glibc

/// A generated repository in the shape of a real one, as a stream for `git fast-import`.
///
/// Two thirds of the files come with the first commit, the others with later ones, which also change earlier files. Sizes
/// are 200 bytes to 200 KiB, mostly small. The text packs and greps like source code. The same seed and number of files give
/// the same commit ids.
struct SeededRepository {
    let seed: UInt64
    let files: Int
    var commits = 24

    /// A word that occurs in one line of 400.
    static let searchedWord = "heartbeat"

    func fastImportStream() -> [UInt8] {
        var random = SeededGenerator(seed: seed)
        var stream: [UInt8] = []
        func append(_ text: String) { stream.append(contentsOf: text.utf8) }
        func append(data: [UInt8]) {
            append("data \(data.count)\n")
            stream.append(contentsOf: data)
            append("\n")
        }
        var paths: [String] = []
        for commit in 0..<commits {
            let planned = commit == commits - 1 ? files : files * (2 * commits + commit) / (3 * commits)
            let added = (paths.count..<max(planned, paths.count)).map { path(of: $0, using: &random) }
            let changed = (0..<(paths.isEmpty ? 0 : max(files / 100, 1))).map { _ in
                paths.randomElement(using: &random)!  // because it is not empty
            }
            append("commit refs/heads/main\n")
            append("committer bench <bench@example.invalid> \(1_600_000_000 + commit * 86_400) +0000\n")
            append(data: Array("Change \(commit)\n".utf8))
            for path in added + changed {
                append("M \(path.hasSuffix(".sh") ? 100755 : 100644) inline \(path)\n")
                append(data: text(using: &random))
            }
            paths += added
        }
        return stream
    }

    /// Twelve top directories with four directories of three; about ten files of eight kinds in each.
    private func path(of number: Int, using random: inout SeededGenerator) -> String {
        let tops = "src lib internal cmd tests docs web scripts tools api data examples".split(separator: " ")
        let kinds = "go swift c h md json py sh".split(separator: " ")
        let top = tops.randomElement(using: &random)!  // because it is not empty
        let kind = kinds.randomElement(using: &random)!  // because it is not empty
        return
            "\(top)/\(Self.words[number % 4])/\(Self.words[4 + number / 4 % 3])/\(Self.words[number % 29])_\(number).\(kind)"
    }

    private func text(using random: inout SeededGenerator) -> [UInt8] {
        let size =
            switch Int.random(in: 0..<100, using: &random) {
            case 0..<30: Int.random(in: 200...1_000, using: &random)
            case 30..<70: Int.random(in: 1_000...5_000, using: &random)
            case 70..<93: Int.random(in: 5_000...16_000, using: &random)
            case 93..<99: Int.random(in: 16_000...50_000, using: &random)
            default: Int.random(in: 50_000...200_000, using: &random)
            }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(size + 80)
        while bytes.count < size {
            bytes.append(contentsOf: repeatElement(UInt8(ascii: " "), count: 4 * Int.random(in: 0...3, using: &random)))
            for _ in 0..<Int.random(in: 2...9, using: &random) {
                bytes.append(contentsOf: Self.wordBytes.randomElement(using: &random)!)  // because it is not empty
                bytes.append(UInt8(ascii: " "))
            }
            if Int.random(in: 0..<400, using: &random) == 0 { bytes.append(contentsOf: "\(Self.searchedWord) ".utf8) }
            bytes.append(contentsOf: "x\(UInt16.random(in: 0...UInt16.max, using: &random));\n".utf8)
        }
        return bytes
    }

    private static let words = """
        agent beat cache daemon edge files graph handle index journal keeper lease mount node order parse queue record \
        signal table unit value watch yield if let for func import return struct switch
        """.split(separator: " ")
    private static let wordBytes = words.map { Array($0.utf8) }
}
