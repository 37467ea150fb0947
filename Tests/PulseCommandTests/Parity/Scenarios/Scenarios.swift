extension Scenario {
    /// All scenarios, by topic.
    static func all() throws(Malformed) -> [Scenario] { try parsed.get() }

    private static let parsed = Result { () throws(Malformed) in
        let topics = [
            names, links, renames, modes, rights, times, opening, temporaryFiles, programs, data, holes, attributes,
            accessLists, specialFiles, directories, locks,
        ]
        return try parse(topics.joined(separator: "\n"))
    }
}
