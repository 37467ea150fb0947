import Glibc
import Linux
import TestSupport
import Testing

@testable import Daemon
@testable import TownFS

extension ParallelEndToEnd {
    /// A thread of the worker that never ends its request.
    @Suite struct HangTests {
        private typealias Executing = (unique: UInt64, thread: pid_t)

        private let start = ContinuousClock.now

        @Test(arguments: [HangWatch.Activity.running, .waitingForLock, .waiting])
        func onlyLongRequestsThatWaitForNothingHang(_ activity: HangWatch.Activity) {
            var watch = HangWatch()
            let executing: [Executing] = [(8, 100), (9, 101)]
            #expect(watch.look(at: executing, now: start) { _ in activity }.isEmpty)
            #expect(watch.look(at: executing, now: start + HangWatch.limit / 2) { _ in activity }.isEmpty)
            // One of the threads has got another request meanwhile.
            let later: [Executing] = [(8, 100), (11, 101)]
            let hanging = watch.look(at: later, now: start + HangWatch.limit) { _ in activity }
            #expect(hanging == (activity == .waiting ? [] : [100]))
        }

        /// The thread that holds the lock may wait for a disk.
        @Test func lockIsWaitedForBesideADisk() {
            var watch = HangWatch()
            let executing: [Executing] = [(8, 100), (9, 101), (10, 102)]
            let activities: [pid_t: HangWatch.Activity] = [100: .waitingForLock, 101: .waiting, 102: .running]
            _ = watch.look(at: executing, now: start) { _ in .waiting }
            #expect(watch.look(at: executing, now: start + HangWatch.limit) { activities[$0] ?? .waiting } == [102])
        }

        /// Stops a thread that waits in poll(2), and lets it go on in an endless loop.
        private static let makeThreadSpin = """
            import ctypes, os, sys
            process, thread = int(sys.argv[1]), int(sys.argv[2])
            image = os.readlink(f"/proc/{process}/exe")
            libc = ctypes.CDLL(None, use_errno=True)
            libc.ptrace.argtypes = [ctypes.c_ulong, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_void_p]
            libc.ptrace.restype = ctypes.c_long
            def ptrace(request, address=0, data=0):
                if libc.ptrace(request, thread, address, data) == -1: raise OSError(ctypes.get_errno(), "ptrace")
            SEIZE, INTERRUPT, GETREGS, SETREGS, DETACH = 0x4206, 0x4207, 12, 13, 17
            ptrace(SEIZE)
            ptrace(INTERRUPT)
            os.waitpid(thread, 0x40000000)
            registers = (ctypes.c_ulonglong * 27)()
            ptrace(GETREGS, 0, ctypes.addressof(registers))
            # The program's entry point runs no more.
            header = open(image, "rb").read(64)
            base = next(int(line.split("-")[0], 16) for line in open(f"/proc/{process}/maps") if image in line)
            entry = base + int.from_bytes(header[24:32], "little")
            with open(f"/proc/{process}/mem", "r+b", buffering=0) as memory:
                memory.seek(entry)
                memory.write(b"\\xeb\\xfe")
            ORIG_RAX, RIP = 15, 16
            registers[ORIG_RAX], registers[RIP] = 2**64 - 1, entry
            ptrace(SETREGS, 0, ctypes.addressof(registers))
            ptrace(DETACH)
            """

        #if arch(x86_64)
            /// Waiting for a hung disk is no hang; looping is.
            @Test(
                .townScopeOnly("the mounts of signal directories do not cover the hung one"), .needsRoot,
                .needs("python3"))
            func loopingWorkerIsReplacedAndAWaitingOneIsNot() throws {
                try withTown { town in
                    let hung = try town.scratch.directory("town/hung")
                    try Command(BuiltProgram.path, "mount", "--no-default-signals", hung).run().expectSuccess()
                    defer { umount2("\(town.backing)/hung", CInt(MNT_DETACH)) }
                    let inner = try MountedTown.Status(Client.read("\(hung)/.pulse/status.json"))
                    let servers = [inner.keeperPid, inner.workerPid]
                    defer { for pid in servers { kill(pid, SIGCONT) } }
                    try town.mount(["--signal", "hung/*.json"], environment: ["PULSEFS_HANG_LIMIT": "1"])
                    let before = try town.status()
                    try Client.write("{}", to: "\(hung)/a.json")
                    for pid in servers { kill(pid, SIGSTOP) }
                    let writer = try Command(
                        "python3", "-c", "import os, sys; os.fsync(os.open(sys.argv[1], os.O_RDWR))", "\(hung)/a.json"
                    ).start()
                    // The one that waits in poll(2) for the write-back of `fsync`.
                    let state = try SharedMemory(
                        takingOwnershipOf: OwnedDescriptor(
                            opening: "/proc/\(before.workerPid)/fd/9", in: AT_FDCWD, O_RDWR))
                    var found: pid_t?
                    #expect(
                        eventually {
                            found = SharedState.executing(in: state).map(\.thread).first { thread in
                                let task = "/proc/\(before.workerPid)/task/\(thread)"
                                return (try? Client.read("\(task)/syscall"))?.hasPrefix("7 ") == true
                            }
                            return found != nil
                        })
                    let thread = try #require(found)
                    // Much longer than the limit.
                    let end = ContinuousClock.now + .seconds(8)
                    while end > .now { usleep(100_000) }
                    #expect(try town.status().workerPid == before.workerPid)
                    try Command(
                        "python3", "-c", Self.makeThreadSpin, "\(before.workerPid)", "\(thread)"
                    ).run().expectSuccess()
                    #expect(try eventually { try town.status().workerPid != before.workerPid })
                    #expect(town.loggedText.contains("a request takes longer than"))
                    #expect(town.loggedText.contains("thread") && town.loggedText.contains("pulsefs("))
                    for pid in servers { kill(pid, SIGCONT) }
                    let outcome = try writer.wait()
                    #expect(outcome.status == 0, "\(outcome)")
                    try town.pulsefs("unmount", town.path).expectSuccess()
                }
            }
        #endif
    }
}
