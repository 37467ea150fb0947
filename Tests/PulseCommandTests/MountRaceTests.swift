import Glibc
import SystemPackage
import TestSupport
import Testing

extension ParallelEndToEnd {
    /// Mounts and unmounts of one town at the same time.
    @Suite(.inEachScope) struct MountRaceTests {
        private func mount(_ town: MountedTown) throws -> RunningCommand {
            let log = "\(town.scratch.path)/home/log"
            return try town.pulsefsCommand(["mount", "--log", log] + TownScope.current.options + [town.path]).start()
        }

        @Test func oneOfTwoMountsAtOnceSucceeds() throws {
            try withTown { town in
                for round in 0..<10 {
                    let mounts = try (0..<2).map { _ in try mount(town) }
                    let statuses = try mounts.map { try $0.wait().status }
                    #expect(statuses.sorted() == [0, 4], "round \(round)")
                    try Client.write(KeepaliveDocument.text("gt \(round)"), to: town.keepalive)
                    try town.unmount()
                    #expect(try KeepaliveDocument(Client.read(town.keepalive)).lastCommand == "gt \(round)")
                }
            }
        }

        @Test func oneOfTwoUnmountsAtOnceSucceeds() throws {
            try withTown { town in
                for round in 0..<10 {
                    try town.mount()
                    let text = KeepaliveDocument.text("gt \(round)")
                    try Client.write(text, to: town.keepalive)
                    let unmounts = try (0..<2).map { _ in try town.pulsefsCommand(["unmount", town.path]).start() }
                    let outcomes = try unmounts.map { try $0.wait() }
                    #expect(outcomes.contains { $0.status == 0 }, "round \(round): \(outcomes)")
                    #expect(eventually { !town.isMounted && town.processes.isEmpty })
                    #expect(try Client.read(town.keepalive) == text)
                }
            }
        }

        /// The unmount comes first or the mount does, or the unmount finds the town in use by the mount.
        ///
        /// None leaves half a mount.
        @Test func mountDuringAnUnmountLeavesAWholeMountOrNone() throws {
            try withTown { town in
                for round in 0..<10 {
                    try town.mount()
                    let text = KeepaliveDocument.text("gt \(round)")
                    try Client.write(text, to: town.keepalive)
                    let unmounting = try town.pulsefsCommand(["unmount", town.path]).start()
                    let mountState = try mount(town)
                    let mounted = try mountState.wait().status
                    let unmounted = try unmounting.wait()
                    #expect(unmounted.status == 0 || unmounted.status == 5, "\(unmounted)")
                    #expect(mounted == 0 || mounted == 4 || mounted == 1, "round \(round)")
                    #expect(try Client.read(town.keepalive) == text)
                    if mounted == 0 || unmounted.status == 5 {
                        #expect(try town.status().town == town.path)
                        try town.unmount()
                    }
                    #expect(eventually { !town.isMounted && town.processes.isEmpty })
                    #expect(try Client.read(town.keepalive) == text)
                }
            }
        }

        @Test(arguments: [SIGTERM, SIGINT]) func terminationSignalDuringStartLeavesNothing(signal: CInt) throws {
            try withTown { town in
                for step in 0..<20 {
                    var command = town.pulsefsCommand(
                        ["mount", "--foreground"] + TownScope.current.options + [town.path])
                    command.limit = .seconds(30)
                    let keeper = try command.start()
                    // At another point of its start each time.
                    usleep(UInt32(step) * 3_000)
                    keeper.send(signal)
                    _ = try keeper.wait()
                    #expect(eventually { !town.isMounted && town.processes.isEmpty }, "step \(step)")
                }
                try town.mount()
                try Client.write(KeepaliveDocument.text("gt"), to: town.keepalive)
                try town.unmount()
            }
        }

        /// The write-back of many documents is cut short by SIGKILL; the keeper writes the rest.
        @Test func workerKilledDuringWritebackLosesNothing() throws {
            try withTown { town in
                for round in 0..<3 {
                    try town.mount()
                    let texts = (0..<300).map { KeepaliveDocument.text("gt \(round).\($0)", filler: 2000) }
                    for (number, text) in texts.enumerated() {
                        try Client.write(text, to: town.heartbeat("a\(number)"))
                    }
                    let worker = try town.status().workerPid
                    let sync = try Command("sync", "\(town.path)/.runtime/heartbeats").start()
                    usleep(UInt32(round) * 5_000)
                    kill(worker, SIGKILL)
                    _ = try sync.wait()
                    // Another worker, or the keeper, writes the rest.
                    if town.isMounted { try town.unmount() }
                    #expect(eventually { town.processes.isEmpty })
                    for (number, text) in texts.enumerated() {
                        #expect(try Client.read(town.heartbeat("a\(number)")) == text)
                    }
                }
            }
        }
    }
}
