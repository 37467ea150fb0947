/// A scenario with another outcome on a mount, and the reason.
///
/// If the outcomes agree, the test fails, so that the lists stay true.
struct KnownDifference: Sendable {
    /// The title of a scenario; without its values, of all its variants.
    let title: String
    let reason: String
    /// The arrangements in which it differs.
    var arrangements = Set(Arrangement.allCases)
    /// False if the outcome depends on timing.
    var isSteady = true

    func names(_ scenario: Scenario) -> Bool {
        scenario.title == title || scenario.title.hasPrefix(title + " (")
    }

    static func of(_ scenario: Scenario, in arrangement: Arrangement) -> KnownDifference? {
        (exclusions + failures).first { $0.names(scenario) && $0.arrangements.contains(arrangement) }
    }

    // MARK: Exclusions

    /// Operations that the kernel does not let a FUSE file system implement.
    static let exclusions = [
        KnownDifference(
            title: "seeking behind what a file can hold",
            reason: "the kernel answers, and does not know the backing file system's limit"),
        KnownDifference(
            title: "seeking to the end of a directory",
            reason: "the kernel answers, with the size, where ext4 has the largest hash of a name"),
        KnownDifference(
            title: "collapsing and inserting",
            reason: "the kernel refuses FALLOC_FL_COLLAPSE_RANGE and FALLOC_FL_INSERT_RANGE for FUSE"),
        KnownDifference(
            title: "collapsing and inserting, wrongly",
            reason: "the kernel refuses FALLOC_FL_COLLAPSE_RANGE and FALLOC_FL_INSERT_RANGE for FUSE"),
        KnownDifference(
            title: "what is stored behind the end, when a file grows",
            reason: "the kernel takes the page for one with that content; it depends on when it is written back",
            isSteady: false),
        KnownDifference(
            title: "holes of what is allocated and has been read",
            reason: "for unwritten extents ext4 looks at the page cache, which differs under a mount",
            isSteady: false),
        KnownDifference(
            title: "emptying a program that runs, by opening it to read",
            reason: "the kernel sends O_TRUNC along with the open before it asks whether the file is executed"),
        KnownDifference(
            title: "writing to a fifo", reason: "the kernel does not tell the server when a fifo is written to"),
        KnownDifference(
            title: "program that may be executed only",
            reason: "the kernel reads it through the server, which may not read it",
            arrangements: [.ofOrdinaryUser]),
        KnownDifference(
            title: "inode flags as statx(2) gives them", reason: "the kernel drops stx_attributes of FUSE_STATX"),
        KnownDifference(
            title: "taking the flag that makes it grow from who has such a file open",
            reason: "the kernel knows nothing of the inode's flag; what is written goes to the end all the same",
            arrangements: Arrangement.madeByRoot),
        KnownDifference(
            title: "renaming a directory onto a file that cannot be changed",
            reason: "the kernel knows nothing of the flag and finds another fault before it asks",
            arrangements: Arrangement.madeByRoot),
    ]

    // MARK: Failures

    /// Defects of pulsefs.
    static let failures: [KnownDifference] = []
}
