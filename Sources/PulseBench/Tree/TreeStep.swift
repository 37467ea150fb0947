/// One step of an agent's work in a tree: what is timed, what it needs, and how its success is seen.
///
/// Everything happens with the target's directory as the working directory. Variables are `StepVariables`.
struct TreeStep {
    let name: String
    /// What is timed, for help, report and docs.
    let summary: String
    /// A shell script, not timed: makes what the step needs, and clears away what an earlier run has left.
    let given: String
    let work: Work
    /// Whether the work is done once untimed before it is timed, so that caches hold what it needs.
    var isWarm = false
    /// How often it is timed in a round; the round's figure is their median.
    var samples = 1
    /// A shell script, not timed: prints what must be the same on every target; `$OUT` is the file the work has printed to.
    let check: String

    /// What is timed.
    enum Work {
        /// A program and its arguments, split at blanks; `$NAME` in them is a variable.
        case program(String)
        /// A shell script.
        case script(String)
        /// Looks at this many random places of a file mapped into memory.
        case mappedReads(file: String, count: Int)
    }

    static func named(_ name: String) -> TreeStep? { all.first { $0.name == name } }

    /// The steps, in the order in which they are done.
    static let all: [TreeStep] = [
        TreeStep(
            name: "git clone", summary: "clone over the pack protocol (`file://`), work tree checked out",
            given: "rm -rf clone",
            work: .program("git clone -q file://$SOURCE clone"),
            check: "git -C clone rev-parse HEAD; git -C clone status --porcelain; \(contents("clone"))"),
        TreeStep(
            name: "git status", summary: "`git status --porcelain` in the clone",
            given: clone,
            work: .program("git -C clone status --porcelain"), isWarm: true, samples: 5,
            check: "cat $OUT; git -C clone ls-files | wc -l"),
        TreeStep(
            name: "git grep", summary: "`git grep -nF` of a word in many files",
            given: clone,
            work: .program("git -C clone grep -nF $PATTERN"), isWarm: true, samples: 5,
            check: "sort $OUT | cksum"),
        TreeStep(
            name: "grep -r", summary: "`grep -rnF` of the same word, `.git` left out",
            given: clone,
            work: .program("grep -rnF --exclude-dir=.git $PATTERN clone"), isWarm: true, samples: 5,
            check: "sort $OUT | cksum"),
        TreeStep(
            name: "find", summary: "`find -printf '%s/%T@'`: every name listed, its attributes read",
            given: clone,
            work: .program("find clone -printf %s/%T@\\n"), isWarm: true, samples: 5,
            check: "wc -l < $OUT"),
        TreeStep(
            name: "tar c", summary: "an archive of the clone, written beside the targets",
            given: clone,
            work: .program("tar cf $KEEP/clone.tar clone"), isWarm: true, samples: 3,
            check: "tar tf $KEEP/clone.tar | wc -l; tar xOf $KEEP/clone.tar --exclude=.git | wc -c"),
        TreeStep(
            name: "tar x", summary: "the same archive for all, extracted",
            given: "rm -rf extracted; mkdir extracted",
            work: .program("tar xf $INPUTS/clone.tar -C extracted"),
            check: contents("extracted")),
        TreeStep(
            name: "cp -r", summary: "a copy of the clone within the target; the clone has been read before",
            given: "\(clone); tar cf $KEEP/clone.tar clone; rm -rf copy",
            work: .program("cp -r clone copy"),
            check: contents("copy")),
        TreeStep(
            name: "git worktree add", summary: "a second work tree of the clone",
            given: "\(clone); rm -rf worktree; git -C clone worktree prune",
            work: .program("git -C clone worktree add -q --detach ../worktree"),
            check: "git -C worktree rev-parse HEAD; git -C worktree status --porcelain; \(contents("worktree"))"),
        TreeStep(
            name: "5 commits", summary: "five times a new file and a changed one, `git add -A`, `git commit`",
            given: "\(clone); git -C clone reset -q --hard origin/HEAD; git -C clone clean -qfdx",
            work: .script(
                """
                for number in 1 2 3 4 5; do
                    echo $number > clone/pulsefs-bench.$number
                    echo $number >> clone/pulsefs-bench
                    git -C clone add -A
                    git -C clone commit -q -m $number
                done
                """),
            check: "git -C clone rev-parse HEAD; git -C clone status --porcelain"),
        TreeStep(
            name: "SQLite WAL", summary: "300 transactions in a new database in WAL mode, by one `sqlite3`",
            given: "rm -f database*",
            work: .script("exec sqlite3 -batch -bail database < $INPUTS/commits.sql"),
            check: "cat $OUT; sqlite3 database 'PRAGMA integrity_check; SELECT count(*), sum(at) FROM beats'"),
        TreeStep(
            name: "write", summary: "one new file of --megabytes, by `dd bs=1M`",
            given: "rm -f big",
            work: .program("dd if=/dev/zero of=big bs=1M count=$MEGABYTES status=none"),
            check: "cksum < big"),
        TreeStep(
            name: "read", summary: "that file, by `dd bs=1M`",
            given: "[ -f big ] || dd if=/dev/zero of=big bs=1M count=$MEGABYTES status=none",
            work: .program("dd if=big of=/dev/null bs=1M status=none"), isWarm: true, samples: 3,
            check: "stat -c %s big"),
        TreeStep(
            name: "mmap", summary: "a new file of 64 MiB mapped, one byte read in each of 20,000 random places",
            given: "cp $INPUTS/pages pages",
            work: .mappedReads(file: "pages", count: 20_000),
            check: "cat $OUT"),
        TreeStep(
            name: "C build", summary: "`make -j2` of 24 small C files",
            given: "rm -rf project; cp -r $INPUTS/project project",
            work: .program("make -s -j2 -C project"),
            check: "project/program"),
        TreeStep(
            name: "rm -rf", summary: "a freshly extracted copy of the clone, removed",
            given: "rm -rf doomed; mkdir doomed; tar xf $INPUTS/clone.tar -C doomed",
            work: .program("rm -rf doomed"),
            check: "[ ! -e doomed ] && echo gone"),
    ]

    /// The clone that most steps work in, where it is not there yet.
    private static let clone = "[ -d clone ] || git clone -q file://$SOURCE clone"

    /// Prints a checksum over names and contents in a tree; `.git` is left out, as packs and indexes are never quite the same.
    private static func contents(_ tree: String) -> String {
        "(cd \(tree); find . -name .git -prune -o -type f -print | sort | xargs -d '\\n' cksum | cksum)"
    }
}
