/// How long touches and reads of one file took, and openings of an ordinary one, in microseconds, in the order in which they were made.
struct TouchTimes: Codable {
    let writes: [Double]
    let reads: [Double]
    let opens: [Double]

    /// Takes `samples` of each.
    ///
    /// The document, as long as Gas Town's are, is made anew for each touch, outside the timed part.
    init(of file: GoFile, ordinary: GoFile, samples: Int) throws {
        let sampler = Sampler(count: samples)
        writes = try sampler.samples(
            prepare: { CheckedDocument(number: $0, length: 16).bytes },
            operation: { try file.write($0) }
        ).map(\.microseconds)
        reads = try sampler.samples(
            prepare: { _ in },
            operation: { _ = try file.read() }
        ).map(\.microseconds)
        opens = try sampler.samples(
            prepare: { _ in },
            operation: { try ordinary.openAndClose() }
        ).map(\.microseconds)
    }
}
