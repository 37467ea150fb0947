import Glibc
import SystemPackage

/// The inputs that all targets share: repository, archive, C project, transactions, pages.
struct TreeInputs {
    let directory: String
    /// The repository, in words.
    let description: String

    init(in scratch: String, options: TreeOptions, supervisor: Supervisor) throws {
        directory = try makeDirectory("\(scratch)/inputs")
        neutralizeEnvironment()
        setenv("REPOSITORY", try options.repository.map(realPath) ?? "", 1)
        if options.repository == nil {
            let repository = SeededRepository(seed: options.seed, files: options.towns.files)
            try writeFile("\(directory)/stream", repository.fastImportStream())
        }
        let facts = try supervisor.run(["sh", "-e", "-c", "cd '\(directory)'\n\(Self.script)"])
            .split(whereSeparator: \.isNewline)
        guard facts.count == 4, let bytes = Double(facts[3]) else {
            throw BenchFailure("cannot describe the repository: \(facts)")
        }
        description =
            (options.repository.map { "repository \($0)" } ?? "seeded repository (seed \(options.seed))")
            + ": \(facts[1]) files, \(number(bytes / 1e6)) MB, \(facts[2]) commits, at \(facts[0].prefix(12))"
    }

    /// Prints the last commit and the number of files, of commits, and of bytes in the work tree.
    private static let script = #"""
        if [ -n "$REPOSITORY" ]; then
            git clone -q --bare --no-hardlinks "$REPOSITORY" source.git
        else
            git init -q --bare source.git
            git -C source.git fast-import --quiet < stream
            git -C source.git repack -adq
            rm stream
        fi
        git clone -q "file://$PWD/source.git" clone
        tar cf clone.tar clone
        rm -rf clone

        # 300 transactions in WAL mode; each inserts a row and updates another.
        {
            echo 'PRAGMA journal_mode=WAL;'
            echo 'CREATE TABLE notes(id INTEGER PRIMARY KEY, agent TEXT, at INTEGER, note TEXT);'
            for n in $(seq 300); do
                text="note $n note $n note $n note $n note $n note $n "
                echo "BEGIN; INSERT INTO notes VALUES($n, 'agent$((n % 20))', $n, '$text$text');" \
                    "UPDATE notes SET at = at + 1 WHERE id = $((n / 2)); COMMIT;"
            done
        } > commits.sql

        # 64 MiB.
        seq 10000000 | head -c 67108864 > pages

        # A C program of 24 files with a common header.
        mkdir project
        cd project
        printf '#include <stdio.h>\n#include "parts.h"\nint main(void) {\n    int sum = 1;\n' > main.c
        for part in $(seq 0 23); do
            echo "int part$part(int value);" >> parts.h
            echo "    sum += part$part(sum);" >> main.c
            {
                printf '#include <stdlib.h>\n#include <string.h>\n#include "parts.h"\n'
                for step in $(seq 0 11); do
                    echo "static int step$step(int value) { return (value * $((step + 3)) + $part) % 10007; }"
                done
                echo "int part$part(int value) {"
                for step in $(seq 0 11); do echo "    value = step$step(value);"; done
                printf '    return value;\n}\n'
            } > part$part.c
        done
        printf '    printf("%%d\\n", sum);\n    return 0;\n}\n' >> main.c
        printf 'CC = cc\nCFLAGS = -O1 -Wall\nOBJECTS = main.o%s\n' "$(printf ' part%d.o' $(seq 0 23))" > Makefile
        printf 'program: $(OBJECTS)\n\t$(CC) -o $@ $(OBJECTS)\n$(OBJECTS): parts.h\n' >> Makefile
        cd ..

        git -C source.git rev-parse HEAD
        git -C source.git ls-tree -r --name-only HEAD | wc -l
        git -C source.git rev-list --count HEAD
        tar xOf clone.tar --exclude=.git | wc -c
        """#
}
