import CLinux
import Glibc
import Linux
import Liveness
import TestSupport
import Testing

@testable import TownFS

@Suite(.timeLimit(.minutes(5))) struct RootProcessesTests {
    private let nux: RuntimeID
    private let max: RuntimeID

    init() throws {
        nux = try RuntimeID("gastown/polecats/nux")
        max = try RuntimeID("gastown/crew/max")
    }

    private func process(_ pid: pid_t, startTime: UInt64 = 1) -> RootProcesses.Process {
        .init(pid: pid, startTime: startTime, program: "claude")
    }

    private func descriptor() throws -> Descriptor {
        Descriptor(try OwnedDescriptor(opening: "/dev/null", in: AT_FDCWD, O_RDONLY))
    }

    @Test func runtimeIsOrphanedWithTheLastOfItsRoots() throws {
        var roots = RootProcesses()
        for pid: pid_t in [10, 20] {
            roots.watch(process(pid), try descriptor())
            roots.add(nux, to: pid)
        }
        #expect(roots.root(of: nux) == 10)
        let first = roots.end(10)
        #expect(first?.runtimes == [])
        #expect(roots.root(of: nux) == 20)
        let last = roots.end(20)
        #expect(last?.runtimes == [nux])
        #expect(roots.root(of: nux) == nil)
        #expect(roots.count == 0)
    }

    @Test func processMayBeSeveralRuntimesInTurn() throws {
        var roots = RootProcesses()
        roots.watch(process(10), try descriptor())
        roots.add(nux, to: 10)
        roots.add(max, to: 10)
        let end = roots.end(10)
        let ended = try #require(end)
        #expect(Set(ended.runtimes) == [nux, max])
        #expect(ended.process == process(10))
        let again = roots.end(10)
        #expect(again == nil)
    }

    @Test func descriptorIsClosedWhenTheProcessHasEnded() throws {
        var roots = RootProcesses()
        // The reading end hangs up when the writing end, which is watched, is closed.
        var ends: [CInt] = [-1, -1]
        try #require(pipe2(&ends, O_CLOEXEC) == 0)
        defer { close(ends[0]) }
        roots.watch(process(10), Descriptor(OwnedDescriptor(takingOwnershipOf: ends[1])))
        #expect(roots.process(10) == process(10))
        #expect(!hasHungUp(ends[0]))
        _ = roots.end(10)
        #expect(roots.process(10) == nil)
        // A program that another test starts holds a copy between fork(2) and execve(2).
        #expect(eventually { hasHungUp(ends[0]) })
    }

    private func hasHungUp(_ descriptor: CInt) -> Bool {
        var question = pollfd(fd: descriptor, events: 0, revents: 0)
        return poll(&question, 1, 0) == 1 && question.revents & Int16(POLLHUP) != 0
    }
}
