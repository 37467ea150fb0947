import Liveness

/// The runtimes of a measured table, and their touches as the file system makes them.
///
/// Runtimes are the polecats of many rigs, 100 in each. The first ones also have a heartbeat file.
struct TablePopulation {
    enum Kind: String, CaseIterable {
        /// By id, as `touch .pulse/alive/ID` does.
        case id
        /// By work on ordinary files.
        case activity
        /// By writing a heartbeat file: a signal file, its runtime, and a new document.
        case heartbeat
        /// By setting a heartbeat file's times: the same without a document.
        case times

        var hasFile: Bool { self == .heartbeat || self == .times }
    }

    let runtimes: Int
    /// Runtimes that have a heartbeat file.
    let files: Int

    var records: Int { runtimes + files }

    /// An id like `rig-0042/polecats/agent-0004217`.
    static func id(_ number: Int) -> RuntimeID {
        runtime("rig-\(padded(number / 100, to: 4))/polecats/agent-\(padded(number, to: 7))")
    }

    /// One of many in one directory: `crowd/agent-0004217`.
    static func crowd(_ number: Int) -> RuntimeID { runtime("crowd/agent-\(padded(number, to: 7))") }

    private static func runtime(_ text: String) -> RuntimeID {
        guard let id = try? RuntimeID(text) else { preconditionFailure("\(text) is a valid id") }
        return id
    }

    /// About 100 bytes, as `gt` writes them.
    static func document(_ number: Int) -> Document {
        let text = #"{"timestamp":"2026-11-21T18:30:00.123456789Z","state":"working","context":"bead \#(number)"}"#
        return Document(Array(text.utf8))
    }

    private static let processes = (0..<64).map { Touch.Process(pid: 1000 + $0, program: "gt") }

    /// A touch whose times are not set yet.
    func touch(_ kind: Kind, _ number: Int, ttl: Duration) -> Touch {
        let (source, evidence): (Touch.Source, Attribution.Evidence?) =
            switch kind {
            case .id: (.command, nil)
            case .activity: (.activity, .directory)
            case .heartbeat: (.written, .path)
            case .times: (.attributes, .path)
            }
        let file = ".runtime/heartbeats/agent-\(Self.padded(number, to: 7)).json"
        return Touch(
            signal: kind.hasFile ? Array(file.utf8) : nil, runtime: Self.id(number), receivedAt: .goZero, at: .now,
            ttl: ttl, document: kind == .heartbeat ? Self.document(number) : nil, source: source, evidence: evidence,
            process: Self.processes[number % Self.processes.count])
    }

    private static func padded(_ number: Int, to width: Int) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, width - digits.utf8.count)) + digits
    }
}
