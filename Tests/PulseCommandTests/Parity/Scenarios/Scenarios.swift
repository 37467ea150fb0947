extension Scenario {
    /// All there are, by topic.
    static func all() throws(Malformed) -> [Scenario] {
        try parse(names)
    }
}
