/// One step of an agent's work; its working directory is the target's; its variables are those of `StepRun`.
struct TreeStep {
    let name: String
    /// A shell script, not timed: makes what the step needs and removes the results of an earlier run.
    let given: String
    /// The timed part.
    let work: Work
    /// Whether the work is first done once untimed, so that caches are filled.
    var isWarm = false
    /// How often it is timed in a round; the round's figure is the median.
    var samples = 1
    /// A shell script, not timed: prints text that must be the same on every target; `$OUT` is the work's output.
    let check: String

    enum Work {
        /// A program and its arguments, split at blanks; `$NAME` is a variable.
        case program(String)
        /// A shell script.
        case script(String)
        /// Maps a file and reads a byte at random places.
        case mappedReads(file: String, count: Int)
        /// Writes a signal file, each time as Go's os.WriteFile does.
        case touches(file: String, count: Int)
        /// Reads a signal file, each time as Go's os.ReadFile does.
        case reads(file: String, count: Int)
    }

    static func named(_ name: String) -> TreeStep? { (all + signals).first { $0.name == name } }

    /// The steps of `tree`, in the order in which they are done; docs/BENCHMARKS.md describes them.
    static let all: [TreeStep] = [
        TreeStep(
            name: "git clone", given: "rm -rf clone", work: .program("git clone -q file://$SOURCE clone"),
            check: "git -C clone rev-parse HEAD; git -C clone status --porcelain; \(contents("clone"))"),
        TreeStep(
            name: "git status", given: clone, work: .program("git -C clone status --porcelain"), isWarm: true,
            samples: 5,
            check: "cat $OUT; git -C clone ls-files | wc -l"),
        TreeStep(
            name: "git grep", given: clone, work: .program("git -C clone grep -nF $PATTERN"), isWarm: true, samples: 5,
            check: "sort $OUT | cksum"),
        TreeStep(
            name: "grep -r", given: clone, work: .program("grep -rnF --exclude-dir=.git $PATTERN clone"),
            isWarm: true, samples: 5, check: "sort $OUT | cksum"),
        TreeStep(
            name: "find", given: clone, work: .program("find clone -printf %s/%T@\\n"), isWarm: true, samples: 5,
            check: "wc -l < $OUT"),
        TreeStep(
            name: "tar c", given: clone, work: .program("tar cf $KEEP/clone.tar clone"), isWarm: true, samples: 3,
            check: "tar tf $KEEP/clone.tar | wc -l; tar xOf $KEEP/clone.tar --exclude=.git | wc -c"),
        TreeStep(
            name: "tar x", given: "rm -rf extracted; mkdir extracted",
            work: .program("tar xf $INPUTS/clone.tar -C extracted"), check: contents("extracted")),
        // The clone is read first, so that its content is cached.
        TreeStep(
            name: "cp -r", given: "\(clone); tar cf $KEEP/clone.tar clone; rm -rf copy",
            work: .program("cp -r clone copy"), check: contents("copy")),
        TreeStep(
            name: "git worktree add", given: "\(clone); rm -rf worktree; git -C clone worktree prune",
            work: .program("git -C clone worktree add -q --detach ../worktree"),
            check: "git -C worktree rev-parse HEAD; git -C worktree status --porcelain; \(contents("worktree"))"),
        TreeStep(
            name: "5 commits", given: "\(clone); git -C clone reset -q --hard origin/HEAD; git -C clone clean -qfdx",
            work: .script(
                """
                for number in 1 2 3 4 5; do
                    echo $number > clone/pulsefs-bench.$number
                    echo $number >> clone/pulsefs-bench
                    git -C clone add -A
                    git -C clone commit -q -m $number
                done
                """), check: "git -C clone rev-parse HEAD; git -C clone status --porcelain"),
        TreeStep(
            name: "SQLite WAL", given: "rm -f database*",
            work: .script("exec sqlite3 -batch -bail database < $INPUTS/commits.sql"),
            check: "cat $OUT; sqlite3 database 'PRAGMA integrity_check; SELECT count(*), sum(at) FROM notes'"),
        TreeStep(
            name: "write", given: "rm -f big",
            work: .program("dd if=/dev/zero of=big bs=1M count=$MEGABYTES status=none"), check: "cksum < big"),
        TreeStep(
            name: "read", given: "[ -f big ] || dd if=/dev/zero of=big bs=1M count=$MEGABYTES status=none",
            work: .program("dd if=big of=/dev/null bs=1M status=none"), isWarm: true, samples: 3,
            check: "stat -c %s big"),
        TreeStep(
            name: "mmap", given: "cp $INPUTS/pages pages", work: .mappedReads(file: "pages", count: 20_000),
            check: "cat $OUT"),
        TreeStep(
            name: "C build", given: "rm -rf project; cp -r $INPUTS/project project",
            work: .program("make -s -j2 -C project"), check: "project/program"),
        TreeStep(
            name: "rm -rf", given: "rm -rf doomed; mkdir doomed; tar xf $INPUTS/clone.tar -C doomed",
            work: .program("rm -rf doomed"), check: "[ ! -e doomed ] && echo gone"),
    ]

    static let signalOperations = 100
    private static let signalFile = ".runtime/keepalive.json"

    /// Touches and reads of a signal file, for counting requests.
    static let signals: [TreeStep] = [
        TreeStep(
            name: "touch", given: "mkdir -p .runtime", work: .touches(file: signalFile, count: signalOperations),
            isWarm: true, check: "grep -c last_command \(signalFile)"),
        TreeStep(
            name: "read of a touch", given: "true", work: .reads(file: signalFile, count: signalOperations),
            isWarm: true, check: "grep -c last_command \(signalFile)"),
    ]

    /// Makes the clone that most steps work in, unless it exists.
    private static let clone = "[ -d clone ] || git clone -q file://$SOURCE clone"

    /// Prints a checksum of names and contents in a tree, without `.git`: packs and indexes differ between runs.
    private static func contents(_ tree: String) -> String {
        "(cd \(tree); find . -name .git -prune -o -type f -print | sort | xargs -d '\\n' cksum | cksum)"
    }
}
