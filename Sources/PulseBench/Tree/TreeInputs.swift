import Glibc
import SystemPackage

/// What all targets are given alike: repository, archive, C project, transactions, pages.
struct TreeInputs {
    /// Where the repository comes from.
    enum Source {
        case seeded(SeededRepository)
        /// A repository of somebody's, of which the commits are taken, not the work tree.
        case given(String)
    }

    let directory: String
    let supervisor: Supervisor

    /// Makes them all.
    func make(from source: Source) throws {
        guard mkdir(directory, 0o755) == 0 else {
            throw BenchFailure("cannot make \(directory)", Errno(rawValue: errno))
        }
        switch source {
        case .seeded(let repository):
            try write(repository.fastImportStream(), to: "stream")
            try run(
                """
                git init -q --bare source.git
                git -C source.git fast-import --quiet < stream
                git -C source.git repack -adq
                rm stream
                """)
        case .given(let path):
            try run("git clone -q --bare --no-hardlinks \(quoted(path)) source.git")
        }
        try run("git clone -q file://$PWD/source.git clone; tar cf clone.tar clone; rm -rf clone")
        try write(Array(Self.transactions.utf8), to: "commits.sql")
        try write(Self.pages, to: "pages")
        guard mkdir("\(directory)/project", 0o755) == 0 else {
            throw BenchFailure("cannot make \(directory)/project", Errno(rawValue: errno))
        }
        for (name, text) in CProject.files { try write(Array(text.utf8), to: "project/\(name)") }
    }

    /// What the repository holds: its last commit, and how many files and commits there are.
    func describe() throws -> TreeReport.Tree {
        let printed = try run(
            """
            git -C source.git rev-parse HEAD
            git -C source.git ls-tree -r --name-only HEAD | wc -l
            git -C source.git rev-list --count HEAD
            tar xOf clone.tar --exclude=.git | wc -c
            """)
        let lines = printed.split(whereSeparator: \.isNewline).map(String.init)
        guard lines.count == 4, let files = Int(lines[1]), let commits = Int(lines[2]), let bytes = Int(lines[3]) else {
            throw BenchFailure("cannot make out what the repository holds: \(printed)")
        }
        return TreeReport.Tree(head: lines[0], files: files, commits: commits, bytes: bytes)
    }

    @discardableResult
    private func run(_ script: String) throws -> String {
        let (exitCode, printed) = try supervisor.run(
            "sh", ["-e", "-c", "cd \(quoted(directory))\n\(script)"], environment: StepVariables.sameForEverybody)
        guard exitCode == 0 else { throw BenchFailure("cannot make the source tree: sh ended with \(exitCode)") }
        return String(decoding: printed, as: UTF8.self)
    }

    private func write(_ bytes: [UInt8], to name: String) throws {
        do {
            try GoFile(path: "\(directory)/\(name)").write(bytes)
        } catch {
            throw BenchFailure("cannot write \(directory)/\(name)", error)
        }
    }

    /// As an agent's notes would be kept: a row and a change of another, 300 times.
    private static let transactions: String = {
        var lines = [
            "PRAGMA journal_mode=WAL;",
            "CREATE TABLE beats(id INTEGER PRIMARY KEY, agent TEXT, at INTEGER, note TEXT);",
        ]
        for number in 1...300 {
            let note = String(repeating: "note \(number) ", count: 12)
            lines.append(
                "BEGIN; INSERT INTO beats VALUES(\(number), 'agent\(number % 20)', \(number), '\(note)'); "
                    + "UPDATE beats SET at = at + 1 WHERE id = \(number / 2); COMMIT;")
        }
        return lines.joined(separator: "\n") + "\n"
    }()

    /// 64 MiB in which a byte tells its page.
    private static var pages: [UInt8] {
        [UInt8](unsafeUninitializedCapacity: 64 << 20) { buffer, count in
            for page in 0..<(64 << 8) {
                buffer[page << 12..<(page + 1) << 12].update(repeating: UInt8(truncatingIfNeeded: page &* 31))
            }
            count = 64 << 20
        }
    }
}

/// A C program of 24 files that include one another's declarations.
private enum CProject {
    static var files: [(name: String, text: String)] {
        let parts = 0..<24
        let header = ("parts.h", parts.map { "int part\($0)(int value);\n" }.joined())
        let sources = parts.map { part in ("part\(part).c", source(of: part)) }
        let calls = parts.map { "    sum += part\($0)(sum);\n" }.joined()
        let main = """
            #include <stdio.h>
            #include "parts.h"
            int main(void) {
                int sum = 1;
            \(calls)    printf("%d\\n", sum);
                return 0;
            }

            """
        let objects = (["main"] + parts.map { "part\($0)" }).map { "\($0).o" }.joined(separator: " ")
        let makefile = """
            CC = cc
            CFLAGS = -O1 -Wall
            OBJECTS = \(objects)
            program: $(OBJECTS)
            \t$(CC) -o $@ $(OBJECTS)
            $(OBJECTS): parts.h

            """
        return [header, ("main.c", main), ("Makefile", makefile)] + sources
    }

    private static func source(of part: Int) -> String {
        let functions = (0..<12).map { number in
            "static int step\(number)(int value) { return (value * \(number + 3) + \(part)) % 10007; }\n"
        }
        let calls = (0..<12).map { "    value = step\($0)(value);\n" }.joined()
        return """
            #include <stdlib.h>
            #include <string.h>
            #include "parts.h"
            \(functions.joined())int part\(part)(int value) {
            \(calls)    return value;
            }

            """
    }
}

/// A path as one word of the shell.
private func quoted(_ path: String) -> String {
    "'" + path.replacing("'", with: "'\\''") + "'"
}
