import CLinux
import Glibc
import Linux
import Testing

@testable import TownFS

@Suite(.timeLimit(.minutes(5))) struct ProcessReaderTests {
    @Test func processesAreReadInOrderWithoutMissingOnes() throws {
        let children = try (0..<3).map { _ in try ChildProgram("echo; read x") }
        let asked = [children[2].pid, 1 << 30, children[0].pid, getpid(), children[1].pid]
        let read = ProcessReader(rules: .gasTown).read(asked)
        #expect(read.map(\.thread) == [children[2].pid, children[0].pid, getpid(), children[1].pid])
        #expect(ProcessReader(rules: .gasTown).read([]).isEmpty)
    }

    /// A thread of a multi-threaded process is resolved on another thread, a single-threaded process immediately.
    @Test func processOfAnyNumberOfThreadsIsRead() throws {
        let child = try ChildProgram("echo; read x", environment: ["GT_ROLE": "mayor"])
        let reader = ProcessReader(rules: .gasTown)
        #expect(reader.read(child.pid, isWaiting: true)?.stat.threads == 1)
        let mayEnd = try EventFD()
        let thread = try Thread(named: "other") { mayEnd.wait() }
        let own = reader.read(gettid(), isWaiting: false)
        #expect(try #require(own).stat.threads > 1)
        #expect(own?.process == getpid())
        mayEnd.signal()
        thread.join()
    }
}
