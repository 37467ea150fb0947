/// A line of `.pulse/events`.
struct TownEvent: Codable, Hashable, Sendable {
    var seq: UInt64?
    var time: String?
    /// `touched`, `expired`, `exited`, `forgotten`, `mirror_up`, `mirror_down`, `lost`, or another of a newer worker.
    var event: String
    var runtime: String?
    var signal: String?
    var source: String?
    var by: String?
    var pid: Int32?
    var program: String?
    var reason: String?
    /// For `lost`: the first and last sequence number of events that a slow reader missed.
    var from: UInt64?
    var to: UInt64?

    /// One printable line for the user.
    var line: String {
        var words = [time ?? "-", TerminalText.fitted(TerminalText.printable(event), to: max(11, event.count))]
        if let runtime { words.append(runtime) }
        let evidence = RuntimeFile.Evidence(source: source, by: by, signal: signal, pid: pid, program: program)
        let details = evidence.words(on: "")
        if !details.isEmpty { words.append(details) }
        if let reason { words.append(reason) }
        if let from, let to { words.append("events \(from) to \(to), which were not read in time") }
        var line = TerminalText.printable(words.joined(separator: "  "))[...]
        while line.last == " " { line.removeLast() }
        return String(line)
    }
}
