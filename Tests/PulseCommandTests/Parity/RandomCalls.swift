import TestSupport

/// Generates calls, in the language of scenarios, from a seed.
///
/// Few names are used, so that calls interact. Calls may be invalid: an errno is an outcome like any other.
struct RandomCalls {
    private var numbers: SplitMix64
    private let arrangement: Arrangement
    /// Mappings or set times, not both: later page write-back changes times that were set before (FUSE in the kernel).
    private let hasMappings: Bool
    private var count = 0

    init(seed: UInt64, _ arrangement: Arrangement) {
        numbers = SplitMix64(state: seed)
        self.arrangement = arrangement
        hasMappings = numbers.next() % 2 == 0
    }

    static func lines(
        seed: UInt64, count: Int, _ arrangement: Arrangement
    ) throws(Scenario.Malformed) -> [Scenario.Line] {
        var calls = RandomCalls(seed: seed, arrangement)
        var lines: [Scenario.Line] = []
        for text in beginning { lines.append(try Scenario.Line(text)) }
        while lines.count < count { lines.append(try Scenario.Line(calls.next())) }
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

    /// The calls with their weights and arguments.
    private static let calls: [(weight: Int, text: String)] = [
        (4, "make PATH KIND MODE"), (6, "mkdir DIRECTORY MODE"), (10, "put NAME DATA"), (3, "symlink PATH NAME"),
        (8, "link NAME NAME"), (6, "unlink NAME"), (1, "unlink PATH"), (2, "rmdir DIRECTORY"), (10, "rename NAME NAME"),
        (5, "rename DIRECTORY DIRECTORY"), (3, "rename PATH PATH"), (3, "rename PATH PATH RENAME_EXCHANGE"),
        (3, "rename NAME NAME RENAME_EXCHANGE"), (2, "rename PATH PATH RENAME_NOREPLACE"),
        (16, "FILE = open NAME O_RDWR|O_NONBLOCK|O_CREAT MODE"), (4, "FILE = open PATH FLAGS MODE"),
        (5, "@d = open DIRECTORY O_DIRECTORY"), (1, "FILE = open PATH O_PATH"),
        (2, "FILE = open DIRECTORY O_TMPFILE|O_RDWR MODE"), (2, "link /proc/self/fd/FILE NAME AT_SYMLINK_FOLLOW"),
        (1, "FILE = dup FILE"), (1, "close FILE"), (8, "write FILE DATA"), (8, "pwrite FILE DATA OFFSET"),
        (3, "append FILE DATA 0"), (3, "read FILE 100"), (6, "pread FILE 100 OFFSET"), (4, "truncate FILE SIZE"),
        (4, "truncate NAME SIZE"), (2, "fallocate FILE 0 OFFSET 5000"),
        (1, "fallocate FILE FALLOC_FL_KEEP_SIZE OFFSET 5000"),
        (2, "fallocate FILE FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE OFFSET 5000"),
        (2, "fallocate FILE FALLOC_FL_ZERO_RANGE OFFSET 500"), (3, "copy FILE OFFSET FILE OFFSET 3000"),
        (2, "lseek FILE OFFSET SEEK_SET"), (1, "lseek FILE 5 SEEK_CUR"), (1, "fsync FILE"),
        (1, "fsync @d"), (4, "stat PATH"), (3, "lstat PATH"),
        (4, "stat FILE"), (1, "stat @d"), (4, "content NAME"), (3, "list DIRECTORY"), (1, "list ."), (1, "inodes ."),
        (1, "inodes DIRECTORY"), (2, "same NAME NAME"), (3, "same NAME FILE"), (1, "same DIRECTORY/.. ."),
        (2, "readlink NAME"), (1, "access PATH W_OK|X_OK"), (3, "chmod NAME MODE"), (1, "chmod DIRECTORY MODE"),
        (1, "chmod FILE MODE"), (3, "chown NAME OWNER"), (1, "chown DIRECTORY OWNER"), (1, "chown FILE OWNER"),
        (2, "setxattr NAME ATTRIBUTE VALUE"), (1, "setxattr FILE ATTRIBUTE VALUE"),
        (1, "removexattr NAME ATTRIBUTE"), (1, "getxattr NAME ATTRIBUTE"), (1, "listxattr PATH"),
        (1, "setfacl NAME access ACL"), (1, "setfacl DIRECTORY default ACL"), (1, "flock FILE LOCK_EX|LOCK_NB"),
        (1, "flock FILE LOCK_SH|LOCK_NB"), (1, "setlk FILE F_WRLCK 0 10"), (5, "MAPPED"), (5, "CALLER"),
    ]

    /// The beginning of every sequence, so that calls find files.
    private static let beginning = [
        "mkdir a 0755", "mkdir b 0755", "mkdir a/a 0755", "mkdir a/b 0755", "mkdir b/a 0755", "put x data",
        "link x a/x", "put b/z more", "@1 = open x O_RDWR", "@2 = open a/y O_RDWR|O_CREAT 0644",
        "@3 = open b/z O_RDWR", "@d = open b O_DIRECTORY",
    ]

    private static let names = [
        "x", "y", "z", "a/x", "a/y", "b/x", "b/z", "a/a/x", "a/b/z", "b/a/y", "@d/x", "@d/z",
    ]
    private static let directories = ["a", "b", "c", "a/a", "a/b", "b/a", "b/c", "@d/a"]

    private static let pieces: [String: [String]] = [
        "NAME": names,
        "DIRECTORY": directories,
        "PATH": names + directories,
        "FILE": ["@1", "@2", "@3"],
        "KIND": ["file", "file", "file", "directory", "directory", "directory", "fifo", "symlink"],
        // No opens of directories: seeking in them is a known difference.
        "FLAGS": [
            "O_RDONLY|O_NONBLOCK|O_CREAT", "O_WRONLY|O_NONBLOCK", "O_RDWR|O_NONBLOCK|O_TRUNC",
            "O_RDWR|O_NONBLOCK|O_APPEND", "O_RDWR|O_NONBLOCK|O_CREAT|O_EXCL", "O_WRONLY|O_NONBLOCK|O_CREAT|O_TRUNC",
        ],
        "OFFSET": ["0", "1", "100", "4000", "4096", "5000", "10000"],
        "SIZE": ["0", "4", "100", "4096", "5000", "8192", "10000"],
        "ATTRIBUTE": ["user.a", "user.b"],
        "ACL": ["u::rwx,g::r-x,o::r--", "u::rw-,u:alice:rwx,g::r--,m::rwx,o::---"],
    ]

    private mutating func filledIn(_ text: String) -> String {
        text.split(separator: " ").map { word in
            if word == "/proc/self/fd/FILE" { return "/proc/self/fd/" + piece("FILE") }
            if word == "DIRECTORY/.." { return piece("DIRECTORY") + "/.." }
            return piece(String(word))
        }.joined(separator: " ")
    }

    private mutating func piece(_ word: String) -> String {
        switch word {
        // At least four bytes, so that stores to mapped memory stay inside the file.
        case "DATA": return ["c\(1000 + count)", "d\(1000 + count){2000}"].randomElement(using: &numbers) ?? ""
        case "VALUE": return "v\(count)"
        case "MODE":
            if arrangement.admitsOthers { return oneOf(Self.modesForOthers) }
            // The server, an ordinary user, writes mapped pages later. That clears set-id bits that
            // were set meanwhile.
            return oneOf(hasMappings && arrangement.owner != .root ? Self.plainModes : Self.modes)
        case "OWNER": return oneOf(arrangement.owner == .root ? ["alice:", "bob:shared", "root:root"] : ["nobody:"])
        case "CALLER":
            guard arrangement.admitsOthers else { return "stat \(piece("NAME"))" }
            return "as " + oneOf(["root", "root", "root", "root", "alice", "bob"])
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

    // Users may always search their own directories: their server has no more rights than they. No
    // set-group-id bit without group execute permission: it survives a write by a group member, and the server
    // knows only the first group.
    private static let plainModes = ["0755", "0700", "0500", "0300", "0711", "01777"]
    private static let modes = plainModes + ["04755", "02755", "06711"]
    private static let modesForOthers = modes + ["0644", "0600", "0666", "0777", "0070", "06777", "02777"]
}
