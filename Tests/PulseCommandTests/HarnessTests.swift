import Glibc
import SystemPackage
import TestSupport
import Testing

extension ParallelEndToEnd {
    /// The harness itself, on which all other tests rely.
    @Suite struct HarnessTests {
        @Test func mountedTownServesASignalFileAndIsGoneAfterwards() throws {
            var path = ""
            try withMountedTown { town in
                path = town.path
                try Client.write(KeepaliveDocument.text("gt prime"), to: town.keepalive)
                #expect(try KeepaliveDocument(Client.read(town.keepalive)).lastCommand == "gt prime")
            }
            #expect(!Client.exists(path))
        }

        @Test func townIsRemovedWhenABodyThrows() throws {
            struct Thrown: Error {}
            var towns: [MountedTown] = []
            #expect(throws: Thrown.self) {
                try withMountedTown { town in
                    towns.append(town)
                    throw Thrown()
                }
            }
            let town = try #require(towns.first)
            #expect(!town.isMounted)
            #expect(eventually { town.processes.isEmpty })
            #expect(!Client.exists(town.scratch.path))
        }

        @Test func bodyThatHangsInTheMountIsFreedAtItsLimit() throws {
            var path = ""
            #expect(throws: Errno.self) {
                try withMountedTown(limit: .seconds(1)) { town in
                    path = town.scratch.path
                    try Client.write("x", to: "\(town.path)/file")
                    let worker = try town.status().workerPid
                    kill(worker, SIGSTOP)
                    // Threads stop one by one, and one that still runs would answer.
                    let tasks = "/proc/\(worker)/task"
                    #expect(
                        try eventually {
                            try Client.names(in: tasks).allSatisfy { task in
                                try Client.read("\(tasks)/\(task)/stat").contains(") T ")
                            }
                        })
                    _ = try Client.names(in: town.path)
                }
            }
            #expect(!Client.exists(path))
        }

        @Test func commandIsKilledAtItsLimit() throws {
            #expect(throws: Command.Failed.self) {
                try Command("sh", "-c", "sleep 100 & sleep 100", limit: .milliseconds(100)).run()
            }
        }
    }
}
