import CLinux
import Glibc
import SystemPackage
import TestSupport
import Testing

extension ParallelEndToEnd {
    /// `--scope=signals`, where it differs from a mount over the whole town.
    ///
    /// The suites with `.inEachScope` test what is the same.
    @Suite(.needsRoot) struct ScopeTests {
        private static let polecats = "*/polecats/*/.runtime/keepalive.json"

        private func withSignalMounts(
            _ options: String..., as user: Command.User? = nil, prepare: (_ path: String) throws -> Void = { _ in },
            _ body: (MountedTown) throws -> Void
        ) throws {
            try TownScope.$current.withValue(.signals) {
                try withMountedTown(options: options, as: user, prepare: prepare, body)
            }
        }

        /// Mountpoints relative to the town.
        private func mountpoints(of town: MountedTown) -> [String] {
            town.mounts.map { String($0[4].dropFirst(town.path.utf8.count + 1)) }.sorted()
        }

        private func make(_ path: String, in town: String) throws {
            try Command("mkdir", "-p", "\(town)/\(path)").output()
        }

        private func device(_ path: String) throws -> dev_t { try FileStatus(path).st_dev }

        // MARK: Signal directories

        @Test func onlyPulseAndSignalDirectoriesAreMounted() throws {
            try withSignalMounts(
                "--signal", Self.polecats,
                prepare: { town in
                    for directory in [
                        "gastown/polecats/nux/.runtime", "gastown/polecats/ace", "gastown/crew/max/.runtime", "src/a",
                    ] { try make(directory, in: town) }
                    try Command("ln", "-s", "nux", "\(town)/gastown/polecats/link").output()
                }
            ) { town in
                let mounted = [".runtime", "daemon", "deacon", "gastown/polecats/nux/.runtime"]
                #expect(mountpoints(of: town) == ([".pulse"] + mounted).sorted())
                #expect(try town.status().covered == mounted)
                #expect(try town.status().uncovered == [])

                let native = try device(town.scratch.path)
                for path in ["", "/src/a", "/mayor", "/gastown/polecats/nux", "/gastown/crew/max/.runtime"] {
                    #expect(try device(town.path + path) == native, "\(path) is not on the backing file system")
                }
                for path in mounted { #expect(try device("\(town.path)/\(path)") != native) }
            }
        }

        @Test func touchesMeanTheSameRuntimesAndFilesAsInTownScope() throws {
            var seen: [[String]] = []
            for scope in TownScope.allCases {
                try TownScope.$current.withValue(scope) {
                    try withMountedTown { town in
                        try town.shell(
                            """
                            echo '{"prefix":0,"rigs":{"gastown":{"beads":{"prefix":"gt"}}}}' > mayor/rigs.json
                            GT_ROLE=gastown/crew/max sh -c 'echo "gt status" > .runtime/keepalive.json'
                            echo '{"state":"working"}' > .runtime/heartbeats/gt-nux.json
                            echo '{"actor":"gastown/witness"}' > daemon/activity.json.tmp
                            mv daemon/activity.json.tmp daemon/activity.json
                            echo '{}' > deacon/heartbeat.json
                            touch .pulse/alive/mayor
                            """)
                        let ids = try town.shell("find .pulse/runtimes -type f | sort").split(separator: "\n")
                        let signals = try town.shell(
                            "find .pulse/runtimes -type f | xargs cat | grep '\"signal\"' | sort")
                        let numbers = try [town.keepalive, town.activity].map { "\(try FileStatus($0).st_ino)" }
                        seen.append(ids.map(String.init) + [signals] + numbers)
                        #expect(ids.count == 5)
                        #expect(try town.status().documents.touches == 4)
                    }
                }
            }
            #expect(seen.first == seen.last)
        }

        @Test func walkingTheTownFindsNothingInPulse() throws {
            try withSignalMounts { town in
                try Client.write(KeepaliveDocument.text("needle"), to: town.keepalive)
                #expect(try town.shell("find .pulse") == ".pulse\n")
                // `.pulse/events` never ends.
                #expect(try town.shell("grep -rl needle .") == "./.runtime/keepalive.json\n")
                #expect(throws: Errno.self) { try Client.write("", to: "\(town.path)/.pulse/new") }
                try Client.write("", to: "\(town.path)/.pulse/alive/new")
                #expect(try town.pulsefs("alive", town.path, "new").status == 0)
            }
        }

        // MARK: Changes while mounted

        @Test func newDirectoryIsMounted() throws {
            try withSignalMounts("--signal", Self.polecats) { town in
                let path = "gastown/polecats/nux/.runtime"
                try make(path, in: town.path)
                #expect(eventually { mountpoints(of: town).contains(path) })
                #expect(try eventually { try town.status().covered?.contains(path) == true })
                try Client.write(KeepaliveDocument.text("gt"), to: "\(town.path)/\(path)/keepalive.json")
                #expect(try town.status().documents.touches == 1)
            }
        }

        // MARK: Deaths

        @Test func documentsAreWrittenBackInAllDirectoriesWhenTheMountEnds() throws {
            try TownScope.$current.withValue(.signals) {
                try withTown { town in
                    let path = "gastown/polecats/nux/.runtime"
                    try make(path, in: town.path)
                    try town.mount(["--signal", Self.polecats], environment: ["PULSEFS_DEATH_LIMIT": "1"])
                    let text = KeepaliveDocument.text("gt")
                    let files = [town.keepalive, "\(town.path)/\(path)/keepalive.json"]
                    for file in files { try Client.write(text, to: file) }
                    kill(try town.status().workerPid, SIGKILL)
                    #expect(eventually { !town.isMounted && town.processes.isEmpty })
                    for file in files { #expect(try Client.read(file) == text) }
                    #expect(!Client.exists("\(town.path)/.pulse"))
                }
            }
        }

        /// Another worker and another keeper know what was mounted at any time before.
        @Test func allDirectoriesAreServedAfterDeaths() throws {
            try withSignalMounts("--signal", Self.polecats) { town in
                let names = ["nux", "ace", "max", "joe"]
                var open: [(file: FileDescriptor, name: String)] = []
                defer { for (file, _) in open { try? file.close() } }
                for (round, name) in names.enumerated() {
                    let path = "gastown/polecats/\(name)/.runtime"
                    try make(path, in: town.path)
                    #expect(try eventually { try town.status().covered?.contains(path) == true })
                    let directory = "\(town.path)/\(path)"
                    try Client.write(KeepaliveDocument.text(name), to: "\(directory)/keepalive.json")
                    open.append((try Client.open("\(directory)/keepalive.json", O_RDONLY), name))
                    try Client.write(name, to: "\(directory)/unlinked")
                    open.append((try Client.open("\(directory)/unlinked", O_RDWR), name))
                    try Client.unlink("\(directory)/unlinked")

                    let before = try town.status()
                    kill(round % 2 == 0 ? before.workerPid : before.keeperPid, SIGKILL)
                    let isReplaced = try eventually {
                        let now = try town.status()
                        return now.workerPid != before.workerPid || now.keeperPid != before.keeperPid
                    }
                    #expect(isReplaced)
                    #expect(try town.status().covered == before.covered)
                    #expect(try town.status().uncovered == [])
                    for (file, name) in open {
                        try file.seek(offset: 0, from: .start)
                        #expect(try Client.read(file).contains(name))
                    }
                    for name in names.prefix(round + 1) {
                        let file = "\(town.path)/gastown/polecats/\(name)/.runtime/keepalive.json"
                        #expect(try KeepaliveDocument(Client.read(file)).lastCommand == name)
                        try Client.write(KeepaliveDocument.text(name), to: file)
                    }
                }
                #expect(try town.status().documents.touches == 4 + 1 + 2 + 3 + 4)
            }
        }

        /// A directory leaves its path while no worker looks.
        @Test func directoryThatMovesBetweenTwoWorkersIsMountedAnew() throws {
            try withSignalMounts(
                "--signal", Self.polecats, prepare: { try make("gastown/polecats/nux/.runtime", in: $0) }
            ) { town in
                let (before, after) = ("\(town.path)/gastown/polecats/nux", "\(town.path)/gastown/polecats/ace")
                let text = KeepaliveDocument.text("gt")
                try Client.write(text, to: "\(before)/.runtime/keepalive.json")
                let worker = try town.status().workerPid
                kill(worker, SIGSTOP)
                try Client.rename(before, to: after)
                kill(worker, SIGKILL)
                let covered = [".runtime", "daemon", "deacon", "gastown/polecats/ace/.runtime"]
                #expect(try eventually { try town.status().covered == covered })
                #expect(mountpoints(of: town) == [".pulse"] + covered)
                #expect(try Client.read("\(after)/.runtime/keepalive.json") == text)
                try Client.write(text, to: "\(after)/.runtime/keepalive.json")
                #expect(try town.status().documents.touches == 2)
            }
        }

        // MARK: More changes

        @Test func documentsFromBeforeADirectoryIsMountedAreKnown() throws {
            try withSignalMounts(
                prepare: { town in try Command("rm", "-r", "\(town)/.runtime").output() }
            ) { town in
                try make("made/heartbeats", in: town.path)
                let text = KeepaliveDocument.text("gt")
                try Client.write(text, to: "\(town.path)/made/heartbeats/gt-nux.json")
                try Client.rename("\(town.path)/made", to: "\(town.path)/.runtime")
                #expect(try eventually { try town.pulsefs("alive", town.path, "gt-nux").status == 0 })
                #expect(try Client.read("\(town.path)/.runtime/heartbeats/gt-nux.json") == text)
            }
        }

        @Test func renamedParentKeepsTheSignalFiles() throws {
            try withSignalMounts(
                "--signal", Self.polecats, prepare: { try make("gastown/polecats/nux/.runtime", in: $0) }
            ) { town in
                let before = "\(town.path)/gastown/polecats/nux"
                let after = "\(town.path)/gastown/polecats/ace"
                let text = KeepaliveDocument.text("gt")
                try Client.write(text, to: "\(before)/.runtime/keepalive.json")
                try Client.rename(before, to: after)
                #expect(
                    try eventually {
                        try town.status().covered
                            == [".runtime", "daemon", "deacon", "gastown/polecats/ace/.runtime"]
                    })
                #expect(try Client.read("\(after)/.runtime/keepalive.json") == text)
                try Client.write(text, to: "\(after)/.runtime/keepalive.json")
                #expect(try town.status().documents.touches == 2)
                // Removed with its parents, once it is unmounted.
                try Client.rename("\(town.path)/gastown", to: "\(town.scratch.path)/elsewhere")
                #expect(try eventually { try town.status().covered == [".runtime", "daemon", "deacon"] })
                #expect(try Client.read("\(town.scratch.path)/elsewhere/polecats/ace/.runtime/keepalive.json") == text)
                #expect(eventually { !mountpoints(of: town).contains { $0.contains("polecats") } })
            }
        }

        @Test func mountpointCannotBeMovedAndIsAFileSystemBoundary() throws {
            try withSignalMounts { town in
                #expect(throws: Errno.resourceBusy) {
                    try Client.rename("\(town.path)/daemon", to: "\(town.path)/other")
                }
                #expect(rmdir("\(town.path)/daemon") == -1 && Errno.current == .resourceBusy)
                let outside = "\(town.path)/mayor/activity.json"
                let text = KeepaliveDocument.text("bd")
                try Client.write(text, to: outside)
                #expect(throws: Errno.improperLink) { try Client.rename(outside, to: town.activity) }
                try Command("mv", outside, town.activity).output()
                #expect(try Client.read(town.activity) == text)
                #expect(try town.status().documents.touches == 1)
            }
        }

        // MARK: Unmounting

        @Test func busyDirectoryKeepsTheWholeTownMounted() throws {
            try withSignalMounts { town in
                let before = mountpoints(of: town)
                let user = try Command("sleep", "60", in: "\(town.path)/deacon").start()
                #expect(eventually { Client.isProcess(user.pid, in: "\(town.path)/deacon") })
                // Twice: the first run must not disturb the second.
                for _ in 1...2 {
                    let outcome = try town.pulsefs("unmount", town.path)
                    #expect(outcome.status == 5 && outcome.errors.contains("sleep"), "\(outcome)")
                    #expect(mountpoints(of: town) == before)
                }
                try Client.write(KeepaliveDocument.text("gt"), to: town.keepalive)
                #expect(try town.status().documents.touches == 1)
                user.send(SIGKILL)
                _ = try user.wait()
                try town.unmount()
                #expect(!Client.exists("\(town.path)/.pulse"))
                #expect(try KeepaliveDocument(Client.read(town.keepalive)).lastCommand == "gt")
            }
        }

        @Test func unmountOfPulseIsTheEndOfAll() throws {
            try withSignalMounts { town in
                let text = KeepaliveDocument.text("gt")
                try Client.write(text, to: town.keepalive)
                try Command("umount", "\(town.path)/.pulse").output()
                #expect(eventually { !town.isMounted && town.processes.isEmpty })
                #expect(try Client.read(town.keepalive) == text)
                #expect(!Client.exists("\(town.path)/.pulse"))
            }
        }

        @Test func unmountOfOneDirectoryLeavesTheOthersAndTheDoctorReportsIt() throws {
            try withSignalMounts { town in
                let text = KeepaliveDocument.text("bd")
                try Client.write(text, to: town.activity)
                try Command("umount", "\(town.path)/daemon").output()
                #expect(
                    try eventually {
                        try town.status().uncovered?.map(\.directory) == ["daemon"]
                            && Client.read(town.activity) == text
                    })
                try Client.write(KeepaliveDocument.text("gt"), to: town.keepalive)
                #expect(try town.status().documents.touches == 2)
                let doctor = try town.pulsefs("doctor", town.path)
                #expect(doctor.status == 1 && doctor.output.contains("daemon"), "\(doctor)")
            }
        }

        @Test func orphanedMountsAreRemoved() throws {
            try withSignalMounts { town in
                for command in ["mount", "unmount"] {
                    let text = KeepaliveDocument.text(command, age: 600)
                    try Client.write(text, to: town.keepalive)
                    try town.synchronize()
                    town.killAll()
                    #expect(eventually { town.processes.isEmpty })
                    try Command("umount", "-l", "\(town.path)/.pulse").output()
                    #expect(throws: Errno.self) { try Client.read(town.keepalive) }
                    let outcome = command == "mount" ? nil : try town.pulsefs("unmount", town.path)
                    if outcome == nil { try town.mount() } else { #expect(outcome?.status == 0) }
                    #expect(try Client.read(town.keepalive) == text)
                    #expect(town.isMounted == (command == "mount"))
                }
            }
        }

        // MARK: Errors and messages

        @Test(arguments: ["**/.runtime/keepalive.json", "*.json", ".pulse/*"])
        func patternThatCannotBeMountedIsRejected(pattern: String) throws {
            try withTown { town in
                let outcome = try town.pulsefs("mount", "--scope=signals", "--signal", pattern, town.path)
                #expect(outcome.status == 64 && outcome.errors.contains(pattern), "\(outcome)")
            }
        }

        @Test func fileNamedPulsePreventsTheMount() throws {
            try withTown { town in
                try Client.write("mine", to: "\(town.path)/.pulse")
                let outcome = try town.pulsefs("mount", "--scope=signals", town.path)
                #expect(outcome.status == 1 && outcome.errors.contains(".pulse"), "\(outcome)")
                #expect(try Client.read("\(town.path)/.pulse") == "mine")
            }
        }

        @Test func optionIsSpelledForFstabAndWarnsOfBeats() throws {
            try withTown { town in
                let outcome = try town.pulsefs("mount", "-o", "scope=signals,activity=beat", town.path)
                #expect(outcome.status == 0 && outcome.errors.contains("beat"), "\(outcome)")
                #expect(mountpoints(of: town) == [".pulse", ".runtime", "daemon", "deacon"])
                #expect(try town.pulsefs("mount", town.path).status == 4)
                try town.unmount()
            }
        }

        // MARK: An ordinary user

        @Test(.needs("fusermount3")) func ordinaryUserHasAMountForEachDirectory() throws {
            try withSignalMounts("--signal", Self.polecats, as: .nobody) { town in
                #expect(mountpoints(of: town) == [".pulse", ".runtime", "daemon", "deacon"])
                try town.shell("mkdir -p gastown/polecats/nux/.runtime")
                #expect(eventually { mountpoints(of: town).contains("gastown/polecats/nux/.runtime") })
                try town.shell(
                    "echo gt > .runtime/keepalive.json; echo gt > gastown/polecats/nux/.runtime/keepalive.json")
                #expect(try town.status().documents.touches == 2)
                let user = try Command("sleep", "60", in: "\(town.path)/deacon", as: .nobody).start()
                #expect(eventually { Client.isProcess(user.pid, in: "\(town.path)/deacon") })
                #expect(try town.pulsefs("unmount", town.path).status == 5)
                #expect(mountpoints(of: town).count == 5)
                user.send(SIGKILL)
                _ = try user.wait()
                try town.unmount()
                #expect(!Client.exists("\(town.path)/.pulse"))
                #expect(try Client.read("\(town.path)/gastown/polecats/nux/.runtime/keepalive.json").contains("gt"))
            }
        }

        @Test(.needs("fusermount3")) func directoryThatMayNotBeMountedOverIsNoHalfMount() throws {
            try withTown(as: .nobody) { town in
                try Command("chown", "root", "\(town.path)/daemon").output()
                let outcome = try town.pulsefs("mount", "--scope=signals", town.path)
                #expect(outcome.status == 1 && outcome.errors.contains("\(town.path)/daemon"), "\(outcome)")
                #expect(eventually { !town.isMounted && town.processes.isEmpty })
                #expect(!Client.exists("\(town.path)/.pulse"))
            }
        }
    }
}
