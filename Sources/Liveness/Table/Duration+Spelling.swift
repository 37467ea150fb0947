public enum UnreadableDuration: Error, Hashable, CustomStringConvertible {
    case misspelled(String)
    case tooLong(String)

    public var description: String {
        switch self {
        case .misspelled(let text):
            "'\(text)' is no duration: write a whole number above 0 and a unit, as in 500ms, 90s, 5m, 1h."
        case .tooLong(let text): "'\(text)' is longer than 100 years."
        }
    }
}

extension Duration {
    private static let units: [(suffix: String, nanoseconds: Int64)] = [
        ("ns", 1), ("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ]

    /// Parses a whole number above 0 and a unit, `90s`, up to 100 years.
    public init(spelled text: String) throws(UnreadableDuration) {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        let unit = Self.units.first { $0.suffix == text.dropFirst(digits.count) }
        guard let unit, let count = Int64(digits), count > 0 else { throw .misspelled(text) }
        let (nanoseconds, overflow) = count.multipliedReportingOverflow(by: unit.nanoseconds)
        guard !overflow, nanoseconds <= 3_155_760_000_000_000_000 else { throw .tooLong(text) }
        self = .nanoseconds(nanoseconds)
    }
}
