/// The result of one check of `pulsefs doctor`.
struct Finding: Codable, Hashable, Sendable {
    enum Level: String, Codable, Sendable {
        case ok
        /// Works, but may surprise.
        case warning
        case problem
        /// The check was not possible.
        case unknown
    }

    /// The name of the check.
    ///
    /// It never changes.
    let check: String
    let level: Level
    let finding: String
    /// Nil if obvious.
    let meaning: String?
    let advice: String?

    static func ok(_ check: String, _ finding: String) -> Finding {
        Finding(check: check, level: .ok, finding: finding, meaning: nil, advice: nil)
    }

    static func warning(_ check: String, _ finding: String, _ meaning: String, do advice: String) -> Finding {
        Finding(check: check, level: .warning, finding: finding, meaning: meaning, advice: advice)
    }

    static func problem(_ check: String, _ finding: String, _ meaning: String, do advice: String) -> Finding {
        Finding(check: check, level: .problem, finding: finding, meaning: meaning, advice: advice)
    }

    static func unknown(_ check: String, _ finding: String, do advice: String) -> Finding {
        Finding(check: check, level: .unknown, finding: finding, meaning: nil, advice: advice)
    }

    /// One printable line.
    var line: String {
        let words = [finding, meaning, advice].compactMap { $0 }.map { $0.hasSuffix(".") ? $0 : $0 + "." }
        return TerminalText.printable(
            "\(TerminalText.fitted(level.rawValue, to: 7))  \(check): \(words.joined(separator: " "))")
    }
}
