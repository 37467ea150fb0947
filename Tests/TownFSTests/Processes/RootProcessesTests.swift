import Glibc
import Linux
import Liveness
import Testing

@testable import TownFS

@Suite struct RootProcessesTests {
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

    @Test func descriptorIsClosedWhenItsEndIsDealtWith() throws {
        var roots = RootProcesses()
        let descriptor = try descriptor()
        let number = descriptor.rawValue
        roots.watch(process(10), descriptor)
        #expect(roots.process(10) == process(10))
        _ = roots.end(10)
        #expect(roots.process(10) == nil)
        #expect(fcntl(number, F_GETFD) != -1, "still held by this test")
        withExtendedLifetime(descriptor) {}
    }
}
