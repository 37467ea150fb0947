import CGNU
import FoundationEssentials
import Glibc
import SystemPackage

/// What one client of `pulsefs-bench survive` has seen.
struct SurvivalWork: Codable {
    /// A call that took long.
    struct SlowCall: Codable {
        let start: ContinuousClock.Instant
        let milliseconds: Double
    }

    private(set) var calls = 0
    private(set) var failed = 0
    /// The first failures.
    private(set) var failures: [String] = []
    private(set) var slow: [SlowCall] = []
    /// Touches of the client's signal file that were acknowledged.
    private(set) var touches = 0

    private static let slowLimit = 1.0
    private static let fileCount = 200
    private static let mostFailures = 10

    /// Works in `directory`, which it makes, until the file `stop` exists.
    ///
    /// The directory is its working directory. Each operation that must not run twice is among those that it does, so
    /// that running one twice fails. Every content is checked.
    init(in directory: String, signal: String, until stop: String, seed: UInt64) throws {
        try makeDirectory(directory)
        guard chdir(directory) == 0 else { throw BenchFailure("cannot enter \(directory)", Errno(rawValue: errno)) }
        var generator = SeededGenerator(seed: seed)
        for number in 0..<Self.fileCount { try writeFile("f\(number)", []) }
        let held = open("held", O_RDWR | O_CREAT, 0o644)
        let unlinked = open("unlinked", O_RDWR | O_CREAT, 0o644)
        let log = open("log", O_WRONLY | O_CREAT | O_APPEND, 0o644)
        defer { for file in [held, unlinked, log] { close(file) } }
        guard held >= 0, unlinked >= 0, log >= 0, write(unlinked, "still here", 10) == 10, unlink("unlinked") == 0
        else { throw BenchFailure("cannot make files in \(directory)", Errno(rawValue: errno)) }
        var lines = 0
        while access(stop, F_OK) != 0 {
            let name = "f\(Int.random(in: 0..<Self.fileCount, using: &generator))"
            switch Int.random(in: 0..<12, using: &generator) {
            case 0: call("stat") { access(name, F_OK) }
            case 1:
                let file = call("open") { open(name, O_RDWR) }
                call("pwrite") { CInt(pwrite(file, "data", 4, 0)) }
                check("content", reads("data", from: file))
                call("close") { close(file) }
            case 2:
                let file = call("create") { open("new", O_WRONLY | O_CREAT | O_EXCL, 0o644) }
                call("write") { CInt(write(file, "abc", 3)) }
                call("close") { close(file) }
                call("unlink") { unlink("new") }
            case 3:
                call("mkdir") { mkdir("directory", 0o755) }
                call("rmdir") { rmdir("directory") }
            case 4:
                call("symlink") { symlink("target", "link") }
                call("unlink") { unlink("link") }
            case 5:
                call("rename") { rename(name, "other") }
                call("link") { link("other", "second") }
                call("unlink") { unlink("second") }
                call("rename") { rename("other", name) }
            case 6:
                let stream = opendir(".")
                var count = 0
                while let stream, readdir(stream) != nil { count += 1 }
                if let stream { closedir(stream) }
                check("listing", count >= Self.fileCount + 2)
            case 7:
                call("pwrite") { CInt(pwrite(held, "held", 4, 0)) }
                check("held", reads("held", from: held))
            case 8:
                var status = stat()
                call("fstat") { fstat(unlinked, &status) }
                check("links", status.st_nlink == 0)
                check("unlinked", reads("still here", from: unlinked))
            case 9:
                lines += 1
                call("append") { CInt(write(log, "line\n", 5)) }
            case 10:
                call("setxattr") { setxattr("held", "user.bench", "1", 1, CInt(XATTR_CREATE)) }
                call("removexattr") { removexattr("held", "user.bench") }
            default:
                let document = Array(#"{"number":\#(touches + 1)}"#.utf8)
                let file = call("open") { open(signal, O_WRONLY | O_CREAT | O_TRUNC, 0o644) }
                call("write") { CInt(document.withUnsafeBytes { write(file, $0.baseAddress, $0.count) }) }
                call("close") { close(file) }
                touches += 1
                let read = (try? GoFile(signal).read()).map { String(decoding: $0, as: UTF8.self) }
                check("document", read?.contains(#""number":\#(touches),"#) ?? false)
            }
        }
        var status = stat()
        check("lines", fstat(log, &status) == 0 && status.st_size == 5 * lines)
    }

    /// Times a call; -1 is a failure.
    @discardableResult
    private mutating func call(_ name: String, _ body: () -> CInt) -> CInt {
        let start = ContinuousClock.now
        let result = body()
        let error = Errno(rawValue: errno)
        let milliseconds = start.duration(to: .now).microseconds / 1000
        calls += 1
        if milliseconds > Self.slowLimit { slow.append(SlowCall(start: start, milliseconds: milliseconds)) }
        if result == -1 { fail("\(name): \(error)") }
        return result
    }

    private mutating func reads(_ text: String, from file: CInt) -> Bool {
        var bytes = [UInt8](repeating: 0, count: text.utf8.count)
        let count = call("pread") { CInt(pread(file, &bytes, bytes.count, 0)) }
        return Int(count) == bytes.count && bytes.elementsEqual(text.utf8)
    }

    private mutating func check(_ name: String, _ holds: Bool) {
        if !holds { fail("wrong: \(name)") }
    }

    private mutating func fail(_ text: String) {
        failed += 1
        if failures.count < Self.mostFailures { failures.append(text) }
    }
}

/// The events of a town as one reader has got them.
struct EventCounts: Codable {
    private(set) var touches: [String: Int] = [:]
    /// Numbers that are missing or that came twice.
    private(set) var gaps = 0

    private struct Event: Decodable {
        let seq: Int?
        let event: String
        let signal: String?
    }

    /// Reads until the signal file `last` is touched.
    init(of town: String, until last: String) throws {
        let file = try FileDescriptor.open(FilePath("\(town)/.pulse/events"), .readOnly, options: .closeOnExec)
        defer { try? file.close() }
        var bytes = [UInt8](repeating: 0, count: 1 << 16)
        var rest: [UInt8] = []
        var number: Int?
        while true {
            let count = try bytes.withUnsafeMutableBytes { try file.read(into: $0) }
            guard count > 0 else { throw BenchFailure("the events of \(town) have ended") }
            var lines = (rest + bytes[..<count]).split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
            rest = Array(lines.removeLast())
            for line in lines {
                let event = try JSONDecoder().decode(Event.self, from: Data(line))
                if let last = number, event.seq != last + 1 { gaps += 1 }
                number = event.seq ?? number
                guard event.event == "touched", let signal = event.signal else { continue }
                if signal == last { return }
                touches[signal, default: 0] += 1
            }
        }
    }
}

/// Rounds of a script that does what agents do: git, a database, an archive, a build.
struct RealWork: Codable {
    /// What each round has printed.
    private(set) var printed: [String] = []

    /// Works in `directory` until the file `stop` exists, or for a number of rounds.
    init(in directory: String, until stop: String?, rounds: Int?) throws {
        while rounds.map({ printed.count < $0 }) ?? (stop.map { access($0, F_OK) != 0 } ?? false) {
            let child = try ChildProcess(["sh", "-euc", Self.script, "sh", directory, "\(printed.count)"])
            child.wait()
            try child.checkStatus()
            printed.append(String(decoding: try child.printed(), as: UTF8.self))
        }
    }

    /// Prints what is the same in every directory.
    private static let script = """
        exec 2>&1
        cd "$1"; mkdir "round$2"; cd "round$2"
        export GIT_AUTHOR_DATE='2026-01-01T00:00:00Z' GIT_COMMITTER_DATE='2026-01-01T00:00:00Z' GIT_CONFIG_GLOBAL=/dev/null
        export GIT_AUTHOR_NAME=bench GIT_AUTHOR_EMAIL=bench@localhost
        export GIT_COMMITTER_NAME=bench GIT_COMMITTER_EMAIL=bench@localhost
        if command -v git > /dev/null; then
            git init -q -b main repository
            for number in 1 2 3 4 5; do
                seq $((number * 200)) > "repository/file$number"
                git -C repository add .
                git -C repository commit -q -m "commit $number"
            done
            git -C repository gc -q
            git -C repository fsck --strict
            git -C repository rev-parse HEAD
            git -C repository status --porcelain
        fi
        if command -v sqlite3 > /dev/null; then
            sqlite3 data.db 'PRAGMA journal_mode=WAL; CREATE TABLE numbers (value INTEGER);'
            for number in 1 2 3 4 5 6 7 8; do sqlite3 data.db "INSERT INTO numbers VALUES ($number);"; done
            sqlite3 data.db 'PRAGMA integrity_check; SELECT count(*), sum(value) FROM numbers;'
        fi
        mkdir tree; for number in $(seq 50); do seq "$number" > "tree/$number"; done
        tar -c --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner tree > tree.tar
        mkdir copy; tar -x -C copy -f tree.tar
        diff -r tree copy/tree
        md5sum < tree.tar
        if command -v cc > /dev/null; then
            printf 'int puts(const char *); int main(void) { return puts("built") < 0; }' > program.c
            cc -o program program.c
            ./program
        fi
        cd ..; rm -rf "round$2"
        ls
        """
}
