import CLinux
import Glibc
import Linux
import Liveness
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import TownFS

/// Identification of callers, with real processes.
@Suite(.timeLimit(.minutes(5))) struct CallerTableTests {
    private func withTable(
        capacity: Int = 8, ignoring ignored: Set<String> = [],
        read: (@Sendable ([pid_t]) -> [ProcessInfo.Snapshot])? = nil,
        _ body: (_ table: CallerTable, _ town: String) throws -> Void
    ) throws {
        try withTemporaryTree { tree in
            try makeDirectories(tree + "/mayor")
            let root = Descriptor(try OwnedDescriptor(opening: tree, in: AT_FDCWD, O_RDONLY | O_DIRECTORY))
            let sessions = TownSessions(in: BackingTree(root: root), log: .silent)
            let table = CallerTable(
                in: tree, sessions: sessions, capacity: capacity, ignoring: ignored, read: read)
            try body(table, tree)
        }
    }

    private func runtime(_ id: String, _ evidence: Attribution.Evidence) throws -> Attribution {
        .runtime(try RuntimeID(id), by: evidence)
    }

    @Test func threadBelongsToItsProcess() throws {
        try withTable { table, _ in
            let caller = try #require(table.caller(gettid()))
            #expect(caller.process.pid == getpid())
            #expect(table.caller(gettid()) === caller)
        }
    }

    @Test func environmentNamesTheRuntime() throws {
        try withTable { table, _ in
            let child = try ChildProgram("echo; read x", environment: ["GT_ROLE": "gastown/nux", "SECRET": "hunter2"])
            let caller = try #require(table.caller(child.pid))
            #expect(table.attribution(of: caller) == (try runtime("gastown/polecats/nux", .environment(.role))))
            #expect(!"\(caller.claims)".contains("hunter2"))
        }
    }

    @Test func workingDirectoryNamesTheRuntimeEvenWhenRemoved() throws {
        try withTable { table, town in
            let directory = "\(town)/gastown/crew/max/src"
            try makeDirectories(directory)
            let child = try ChildProgram("echo; read x", in: directory)
            let expected = try runtime("gastown/crew/max", .directory)
            #expect(table.attribution(of: table.caller(child.pid)) == expected)
            rmdir(directory)
            #expect(table.attribution(of: table.caller(child.pid)) == expected)
        }
    }

    @Test func directoriesThatOnlyBeginAlikeAreElsewhere() throws {
        try withTable { table, town in
            try makeDirectories("\(town)-other/gastown/crew/max")
            defer {
                for path in ["/gastown/crew/max", "/gastown/crew", "/gastown", ""] { rmdir("\(town)-other\(path)") }
            }
            let other = try ChildProgram("echo; read x", in: "\(town)-other/gastown/crew/max")
            #expect(table.attribution(of: table.caller(other.pid)) == .unknown)
            let root = try ChildProgram("echo; read x", in: town)
            #expect(table.attribution(of: table.caller(root.pid)) == .unknown)
        }
    }

    @Test func programThatIsExecutedUnderTheSameNumberIsReadAnew() throws {
        try withTable { table, _ in
            let script = "echo; read x; exec env GT_ROLE=deacon sh -c 'echo; read x'"
            let child = try ChildProgram(script, environment: ["GT_ROLE": "mayor"])
            #expect(table.attribution(of: table.caller(child.pid)) == (try runtime("mayor", .environment(.role))))
            child.goOn()
            child.hear()
            #expect(table.attribution(of: table.caller(child.pid)) == (try runtime("deacon", .environment(.role))))
        }
    }

    @Test func endedProcessHasNoIdentity() throws {
        try withTable { table, _ in
            let child = try ChildProgram("echo; read x", environment: ["GT_ROLE": "mayor"])
            let caller = try #require(table.caller(child.pid))
            kill(child.pid, SIGKILL)
            // Not reaped yet.
            let isSeen = eventually { caller.condition == .gone }
            #expect(isSeen)
            child.end()
            #expect(caller.condition == .gone)
            #expect(table.caller(child.pid) == nil)
        }
    }

    @Test(arguments: [0, -1, 1 << 30])
    func invisibleThreadHasNoIdentity(_ thread: pid_t) throws {
        try withTable { table, _ in
            #expect(table.caller(thread) == nil)
            #expect(table.attribution(of: table.caller(thread)) == .unknown)
        }
    }

    @Test func callersBeyondTheTableAreStillIdentified() throws {
        try withTable(capacity: 2) { table, _ in
            let children = try ["mayor", "deacon", "daemon"].map { name in
                (name, try ChildProgram("echo; read x", environment: ["GT_ROLE": name]))
            }
            for _ in 0..<2 {
                for (name, child) in children {
                    #expect(table.attribution(of: table.caller(child.pid)).runtime?.description == name)
                }
            }
        }
    }

    /// What a search reads of each process is the expensive part: an environment may have megabytes.
    @Test func searchReadsEachProgramOfAProcessOnce() throws {
        let reads = Mutex<[pid_t]>([])
        func readSinceLastTime() -> [pid_t] {
            reads.withLock { reads in
                defer { reads = [] }
                return reads.sorted()
            }
        }
        let reader = ProcessReader(rules: .gasTown)
        try withTable(read: { processes in
            reads.withLock { $0 += processes }
            return reader.read(processes)
        }) { table, _ in
            let mayor = try ChildProgram("echo; read x", environment: ["GT_ROLE": "mayor"])
            let other = try ChildProgram("echo; read x; exec env GT_ROLE=deacon sh -c 'echo; read x'")
            let numbers = [mayor.pid, other.pid].sorted()
            func found(_ name: String) -> [pid_t] {
                table.processes(numbers) { $0.description == name }.map(\.thread)
            }
            #expect(found("deacon") == [])
            #expect(readSinceLastTime() == numbers)
            for _ in 0..<10 { #expect(found("deacon") == []) }
            #expect(readSinceLastTime() == [])
            // Found without a reading, and read to be watched.
            #expect(found("mayor") == [mayor.pid])
            #expect(readSinceLastTime() == [mayor.pid])
            other.goOn()
            other.hear()
            #expect(found("deacon") == [other.pid])
            #expect(readSinceLastTime() == [other.pid])
            table.forgetSearched(except: [mayor.pid])
            #expect(found("daemon") == [])
            #expect(readSinceLastTime() == [other.pid])
        }
    }

    @Test func callersThatStillRunAreFoundWithoutASearch() throws {
        try withTable { table, _ in
            let first = try ChildProgram("echo; read x", environment: ["GT_ROLE": "mayor"])
            let second = try ChildProgram("echo; read x", environment: ["GT_ROLE": "mayor"])
            for child in [first, second] { _ = try #require(table.caller(child.pid)) }
            first.end()
            #expect(table.cached { $0.description == "mayor" }.map(\.thread) == [second.pid])
            #expect(table.cached { $0.description == "deacon" }.isEmpty)
        }
    }

    @Test func ignoredProgramIsKnownByItsNameInFull() throws {
        try withTable(ignoring: ["a-very-long-program-name"]) { table, town in
            let program = "\(town)/a-very-long-program-name"
            symlink("/bin/sh", program)
            let child = try ChildProgram("exec \(program) -c 'echo; read x'")
            #expect(try #require(table.caller(child.pid)).isIgnored)
            #expect(try #require(table.caller(gettid())).isIgnored == false)
        }
    }

    @Test func sessionsAreExplainedByTheRigsAsTheyAreNow() throws {
        try withTable { table, town in
            let child = try ChildProgram("echo; read x", environment: ["GT_SESSION": "gt-nux"])
            let caller = try #require(table.caller(child.pid))
            #expect(table.attribution(of: caller) == .unknown)
            func write(_ text: String) throws {
                let file = try OwnedDescriptor(
                    opening: "\(town)/mayor/rigs.json", in: AT_FDCWD, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o644)
                _ = try retryingInterrupts { Glibc.write(file.rawValue, text, text.utf8.count) }
            }
            try write(#"{"rigs":{"gastown":{"beads":{"prefix":"gt"}}}}"#)
            let named = try runtime("gastown/polecats/nux", .environment(.session))
            #expect(table.attribution(of: caller) == named)
            // An incomplete file leaves the former names in effect.
            try write(#"{"rigs":{"#)
            #expect(table.attribution(of: caller) == named)
            try write(#"{"rigs":{"other":{"beads":{"prefix":"gt"}}}}"#)
            #expect(table.attribution(of: caller) == (try runtime("other/polecats/nux", .environment(.session))))
            unlink("\(town)/mayor/rigs.json")
            #expect(table.attribution(of: caller) == .unknown)
        }
    }
}
