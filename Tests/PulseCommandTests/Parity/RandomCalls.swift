/// A sequence of numbers that a seed decides, on every machine the same: SplitMix64.
struct SeededNumbers: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var number = state
        number = (number ^ (number >> 30)) &* 0xbf58_476d_1ce4_e5b9
        number = (number ^ (number >> 27)) &* 0x94d0_49bb_1331_11eb
        return number ^ (number >> 31)
    }
}

/// Makes up calls, in the language of scenarios, from a seed.
///
/// Names are few, so that calls meet. Whether a call makes sense is not asked: an errno is an outcome as any other.
struct RandomCalls {
    private var numbers: SeededNumbers
    private let arrangement: Arrangement
    /// Not both: pages that are written back later move times that were set before, as the kernel has it for FUSE.
    private let hasMappings: Bool
    private var count = 0

    init(seed: UInt64, _ arrangement: Arrangement) {
        numbers = SeededNumbers(seed: seed)
        self.arrangement = arrangement
        hasMappings = numbers.next() % 2 == 0
    }

    static func lines(
        seed: UInt64, count: Int, _ arrangement: Arrangement
    ) throws(Scenario.Malformed) -> [Scenario.Line] {
        var calls = RandomCalls(seed: seed, arrangement)
        var lines: [Scenario.Line] = []
        for _ in 0..<count { lines.append(try Scenario.Line(calls.next())) }
        return lines
    }

    private mutating func next() -> String {
        count += 1
        let sum = Self.calls.reduce(0) { $0 + $1.weight }
        var number = Int.random(in: 0..<sum, using: &numbers)
        for call in Self.calls {
            number -= call.weight
            if number < 0 { return filledIn(call.text) }
        }
        preconditionFailure("the number is below the sum of the weights")
    }

    /// How often each is made, and of which pieces.
    private static let calls: [(weight: Int, text: String)] = [
        (8, "make PATH KIND MODE"), (3, "mkdir PATH MODE"), (4, "put PATH DATA"), (3, "symlink PATH PATH"),
        (6, "link PATH PATH"), (8, "unlink PATH"), (4, "rmdir PATH"), (10, "rename PATH PATH"),
        (3, "rename PATH PATH RENAME_EXCHANGE"), (2, "rename PATH PATH RENAME_NOREPLACE"),
        (12, "FILE = open PATH O_RDWR|O_NONBLOCK"), (4, "FILE = open PATH FLAGS MODE"),
        (3, "@d = open PATH O_DIRECTORY"), (2, "FILE = open PATH O_PATH"), (1, "FILE = open . O_TMPFILE|O_RDWR MODE"),
        (1, "link /proc/self/fd/FILE PATH AT_SYMLINK_FOLLOW"), (1, "FILE = dup FILE"), (3, "close FILE"),
        (8, "write FILE DATA"), (8, "pwrite FILE DATA OFFSET"), (3, "append FILE DATA 0"), (3, "read FILE 100"),
        (6, "pread FILE 100 OFFSET"), (4, "truncate FILE SIZE"), (4, "truncate PATH SIZE"),
        (2, "fallocate FILE 0 OFFSET 5000"), (1, "fallocate FILE FALLOC_FL_KEEP_SIZE OFFSET 5000"),
        (2, "fallocate FILE FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE OFFSET 5000"),
        (2, "fallocate FILE FALLOC_FL_ZERO_RANGE OFFSET 500"), (3, "copy FILE OFFSET FILE OFFSET 3000"),
        (2, "lseek FILE OFFSET SEEK_SET"), (1, "lseek FILE 0 SEEK_END"), (1, "fsync FILE"), (1, "fsync @d"),
        (4, "stat PATH"), (3, "lstat PATH"), (4, "stat FILE"), (2, "content PATH"), (2, "list PATH"), (1, "list ."),
        (1, "inodes ."), (2, "same PATH PATH"), (2, "same PATH FILE"), (2, "readlink PATH"),
        (1, "access PATH W_OK|X_OK"),
        (3, "chmod PATH MODE"), (1, "chmod FILE MODE"), (3, "chown PATH OWNER"), (1, "chown FILE OWNER"),
        (2, "setxattr PATH NAME VALUE"), (1, "setxattr FILE NAME VALUE"), (1, "removexattr PATH NAME"),
        (1, "getxattr PATH NAME"), (1, "listxattr PATH"), (1, "setfacl PATH access ACL"),
        (1, "setfacl PATH default ACL"),
        (1, "flock FILE LOCK_EX|LOCK_NB"), (1, "flock FILE LOCK_SH|LOCK_NB"), (1, "setlk FILE F_WRLCK 0 10"),
        (3, "MAPPED"), (5, "CALLER"),
    ]

    private static let pieces: [String: [String]] = [
        "PATH": [
            "x", "y", "z", "a", "b", "a/x", "a/y", "a/a", "a/b", "b/x", "b/z", "b/a", "a/a/x", "b/a/y", "a/b/z", "@d/x",
            "@d/y", "@d/a",
        ],
        "FILE": ["@1", "@2", "@3"],
        "KIND": ["file", "file", "file", "directory", "directory", "directory", "fifo", "symlink"],
        "FLAGS": [
            "O_RDONLY|O_NONBLOCK", "O_WRONLY|O_NONBLOCK", "O_RDWR|O_NONBLOCK|O_TRUNC", "O_RDWR|O_NONBLOCK|O_APPEND",
            "O_RDWR|O_NONBLOCK|O_CREAT", "O_RDWR|O_NONBLOCK|O_CREAT|O_EXCL", "O_WRONLY|O_NONBLOCK|O_CREAT|O_TRUNC",
        ],
        "OFFSET": ["0", "1", "100", "4000", "4096", "5000", "10000"],
        "SIZE": ["0", "4", "100", "4096", "5000", "8192", "10000"],
        "NAME": ["user.a", "user.b"],
        "ACL": ["u::rwx,g::r-x,o::r--", "u::rw-,u:alice:rwx,g::r--,m::rwx,o::---"],
    ]

    private mutating func filledIn(_ text: String) -> String {
        text.split(separator: " ").map { word in
            if word == "/proc/self/fd/FILE" { return "/proc/self/fd/" + piece("FILE") }
            return piece(String(word))
        }.joined(separator: " ")
    }

    private mutating func piece(_ word: String) -> String {
        switch word {
        // No shorter than four, for what is stored in mapped memory to lie within its file.
        case "DATA": return ["c\(1000 + count)", "d\(1000 + count){2000}"].randomElement(using: &numbers) ?? ""
        case "VALUE": return "v\(count)"
        case "MODE": return oneOf(arrangement.admitsOthers ? Self.modesForOthers : Self.modes)
        case "OWNER": return oneOf(arrangement.owner == .root ? ["alice:", "bob:shared", "root:root"] : [":"])
        case "CALLER":
            return arrangement.admitsOthers ? "as " + oneOf(["root", "root", "alice", "bob"]) : "stat \(piece("PATH"))"
        case "MAPPED":
            guard hasMappings else { return "utimens \(piece("PATH")) 1000000000 \(1_000_000_000 + count)" }
            return oneOf([
                "@m = mmap \(piece("FILE")) PROT_READ|PROT_WRITE MAP_SHARED 0 4096", "store @m 0 m\(count % 10)m",
                "load @m 0 10", "close @m",
            ])
        default: return Self.pieces[word].map { oneOf($0) } ?? word
        }
    }

    private mutating func oneOf(_ words: [String]) -> String { words.randomElement(using: &numbers) ?? "" }

    private static let modes = ["0644", "0755", "0700", "0600", "04755", "01777"]
    private static let modesForOthers = modes + ["0666", "0777", "02777", "06777", "0070"]
}
