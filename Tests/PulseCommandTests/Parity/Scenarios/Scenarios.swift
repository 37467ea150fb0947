extension Scenario {
    /// All there are, by topic.
    static func all() throws(Malformed) -> [Scenario] {
        let topics = [
            names, links, renames, modes, rights, times, opening, data, holes, attributes, accessLists, specialFiles,
            directories, locks,
        ]
        return try parse(topics.joined(separator: "\n"))
    }
}
