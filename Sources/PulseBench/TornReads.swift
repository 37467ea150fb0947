/// What became of the reads of one reader beside one writer, both in a loop.
///
/// A read is torn when it gives anything but one whole document.
struct TornReads: Codable {
    /// Documents written meanwhile.
    var writes = 0
    var reads = 0
    var empty = 0
    var unparsable = 0
    var mixed = 0

    /// Torn reads as a share of all.
    var share: Double { reads == 0 ? 0 : Double(empty + unparsable + mixed) / Double(reads) }

    /// The writer's part.
    ///
    /// The documents are made beforehand, so that it does nothing but write. Their lengths stride through the range: each
    /// differs much from the one before.
    static func write(_ file: GoFile, for time: Duration) throws -> TornReads {
        let documents = (0..<128).map { CheckedDocument(number: $0, length: 1 + $0 * 739 % 2_003).bytes }
        let end = ContinuousClock.now + time
        var tally = TornReads()
        while ContinuousClock.now < end {
            try file.write(documents[tally.writes % documents.count])
            tally.writes += 1
        }
        return tally
    }

    /// The reader's part.
    static func read(_ file: GoFile, for time: Duration) throws -> TornReads {
        let end = ContinuousClock.now + time
        var tally = TornReads()
        while ContinuousClock.now < end {
            switch CheckedDocument.reading(try file.read()) {
            case .whole: break
            case .empty: tally.empty += 1
            case .unparsable: tally.unparsable += 1
            case .mixed: tally.mixed += 1
            }
            tally.reads += 1
        }
        return tally
    }

    static func += (left: inout TornReads, right: TornReads) {
        left.writes += right.writes
        left.reads += right.reads
        left.empty += right.empty
        left.unparsable += right.unparsable
        left.mixed += right.mixed
    }
}
