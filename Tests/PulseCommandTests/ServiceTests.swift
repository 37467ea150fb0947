import Glibc
import TestSupport
import Testing

extension EndToEnd {
    /// `mount-scripts/pulsefs@.service` under a real systemd.
    ///
    /// Its mount namespace has copies of all mounts: those of parallel tests would outlive their unmount.
    @Suite(
        .inEachScope, .needsRoot, .needs("systemctl", "unshare", "nsenter", "python3"), .timeLimit(.minutes(5)))
    struct ServiceTests {
        /// Works in a directory of signal files until a file appears, with files open that another process must go on with.
        private static let client = """
            import os, sys
            town, stop = sys.argv[1:]
            os.chdir(f"{town}/.runtime")
            held = os.open("held", os.O_RDWR | os.O_CREAT)
            unlinked = os.open("unlinked", os.O_RDWR | os.O_CREAT)
            os.write(unlinked, b"still here")
            os.unlink("unlinked")
            rounds = 0
            while not os.path.exists(stop):
                rounds += 1
                os.close(os.open("new", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
                os.unlink("new")
                os.pwrite(held, b"%d" % rounds, 0)
                assert os.pread(unlinked, 20, 0) == b"still here"
                with open("heartbeats/anna.json", "w") as file: file.write('{"round":%d}' % rounds)
                if rounds % 20 == 0: print(".", flush=True)
            print(rounds)
            """

        /// A town whose service runs.
        private final class Service {
            let systemd: Systemd
            let town: MountedTown
            let name: String

            init(of town: MountedTown) throws {
                systemd = try Systemd(in: town.scratch.directory("units"))
                self.town = town
                name = try Command("systemd-escape", "--path", "--template=pulsefs@.service", town.path).output()
                    .split(separator: "\n").joined()
                try systemd.systemctl("start", name).output()
            }

            func status() throws -> MountedTown.Status {
                try MountedTown.Status(Client.read(systemd.path("\(town.path)/.pulse/status.json")))
            }

            func property(_ name: String) throws -> String { try systemd.property(name, of: self.name) }
            /// Whether there were too many deaths.
            var hasEndedMount: Bool {
                ["the processes have died", "the keeper has died; ending the mount"].contains { log.contains($0) }
            }

            var log: String { (try? Client.read("\(town.scratch.path)/units/log")) ?? "" }

            func killAll() throws {
                try systemd.systemctl("kill", "--signal=KILL", "--kill-who=all", name).output()
            }
        }

        @Test func noCallFailsWhateverDies() throws {
            try withTown { town in
                let service = try Service(of: town)
                let stop = "\(town.scratch.path)/stop"
                let client = try service.systemd.command(
                    ["python3", "-c", Self.client, town.path, stop], limit: .seconds(60)
                ).start()
                /// Does something to the service, and expects another keeper.
                func replaceKeeper(_ action: () throws -> Void) throws {
                    // systemd has the descriptor of the unlinked file a second after it was unlinked. With --scope=signals
                    // it also has three of each of three mounts.
                    let count = TownScope.current == .town ? "5" : "14"
                    #expect(try eventually { try service.property("NFileDescriptorStore") == count })
                    let before = try service.status()
                    let printed = client.printed.count
                    try action()
                    #expect(eventually { client.printed.count > printed + 4 })
                    #expect(try service.status().workerPid != before.workerPid)
                }
                try replaceKeeper { try service.killAll() }
                #expect(try service.property("NRestarts") == "1")
                try replaceKeeper { try service.systemd.systemctl("reload", service.name).output() }
                let keeper = try service.property("MainPID")
                try service.systemd.command(["kill", "-KILL", keeper]).output()
                #expect(try eventually { try service.property("MainPID") != keeper })
                try replaceKeeper { try service.killAll() }
                #expect(try service.property("NRestarts") == "2")
                try Client.write("", to: stop)
                let outcome = try client.wait()
                #expect(outcome.status == 0, "\(outcome)\n\(service.log)")
                let rounds = try #require(outcome.output.split(separator: "\n").last)
                try service.systemd.systemctl("stop", service.name).output()
                #expect(try service.property("NFileDescriptorStore") == "0")
                #expect(try Client.read("\(town.path)/.runtime/heartbeats/anna.json").contains(#""round":\#(rounds)"#))
            }
        }

        /// After five deaths in a minute the mount ends in order, and the service mounts anew.
        @Test func manyDeathsEndTheMount() throws {
            try withTown { town in
                let service = try Service(of: town)
                let document = service.systemd.path("\(town.path)/.runtime/heartbeats/anna.json")
                // A standby that is killed last has counted a death of its own.
                var death = 0
                while death < 5, !service.hasEndedMount {
                    death += 1
                    try Client.write(#"{"death":\#(death)}"#, to: document)
                    let before = try service.status()
                    try service.killAll()
                    #expect(try eventually { try service.property("ActiveState") == "active" })
                    // After the fifth death there is no mount for a moment.
                    let isReplaced = eventually {
                        (try? service.status().keeperPid).map { $0 != before.keeperPid } ?? false
                    }
                    #expect(isReplaced, "\(service.log)")
                }
                #expect(service.hasEndedMount)
                #expect(try service.status().documents.touches == 0)
                #expect(try Client.read(document).contains(#""death":\#(death)"#))
                try service.systemd.systemctl("stop", service.name).output()
                #expect(
                    try Client.read("\(town.path)/.runtime/heartbeats/anna.json").contains(#""death":\#(death)"#))
            }
        }
    }
}
