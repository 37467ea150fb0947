import Liveness
import SystemPackage

/// Who there is in a table that is measured, and how each is touched: as the file system does it.
///
/// Runtimes are the polecats of many rigs, a hundred in each; the first of them have a heartbeat file, too.
struct TablePopulation {
    /// What a touch is.
    enum Kind: String, Codable, CaseIterable {
        /// By its id, as `touch .pulse/alive/ID` does.
        case id
        /// By work on ordinary files.
        case activity
        /// A heartbeat file written: a signal file, its runtime, and a new document.
        case heartbeat
        /// A heartbeat file's times set: the same without a document.
        case times

        var hasFile: Bool { self == .heartbeat || self == .times }
    }

    let runtimes: Int
    /// Runtimes that have a heartbeat file.
    let files: Int

    var records: Int { runtimes + files }

    /// Four runtimes to each heartbeat file.
    init(records: Int) {
        self.init(runtimes: records - records / 5, files: records / 5)
    }

    init(runtimes: Int, files: Int) {
        self.runtimes = runtimes
        self.files = files
    }

    /// An id like `rig-0042/polecats/agent-0004217`, made anew as a request's is.
    static func id(_ number: Int) -> RuntimeID {
        runtime("rig-\(padded(number / 100, to: 4))/polecats/agent-\(padded(number, to: 7))")
    }

    /// One of many in one directory, `crowd/agent-0004217`.
    static func crowd(_ number: Int) -> RuntimeID { runtime("crowd/agent-\(padded(number, to: 7))") }

    private static func runtime(_ text: String) -> RuntimeID {
        guard let id = try? RuntimeID(text) else { preconditionFailure("\(text) is an id") }
        return id
    }

    static func file(_ number: Int) -> [UInt8] {
        Array(".runtime/heartbeats/agent-\(padded(number, to: 7)).json".utf8)
    }

    /// As `gt` writes it, some 100 bytes.
    static func document(_ number: Int) -> Document {
        let text = #"{"timestamp":"2026-11-21T18:30:00.123456789Z","state":"working","context":"bead \#(number)"}"#
        return Document(Array(text.utf8))
    }

    /// One of a number of processes that do the touching.
    private static let processes = (0..<64).map { Touch.Process(pid: 1000 + $0, program: "gt") }

    /// A touch at no particular time yet.
    func touch(_ kind: Kind, _ number: Int, ttl: Duration) -> Touch {
        let source: Touch.Source =
            switch kind {
            case .id: .command
            case .activity: .activity
            case .heartbeat: .written
            case .times: .attributes
            }
        let evidence: Attribution.Evidence? =
            switch kind {
            case .id: nil
            case .activity: .directory
            case .heartbeat, .times: .path
            }
        return Touch(
            signal: kind.hasFile ? Self.file(number) : nil, runtime: Self.id(number), receivedAt: .goZero, at: .now,
            ttl: ttl, document: kind == .heartbeat ? Self.document(number) : nil, source: source, evidence: evidence,
            process: Self.processes[number % Self.processes.count])
    }

    private static func padded(_ number: Int, to width: Int) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, width - digits.utf8.count)) + digits
    }
}
