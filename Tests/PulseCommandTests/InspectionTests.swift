import FoundationEssentials
import Glibc
import TestSupport
import Testing
import TownFS

@testable import PulseCommand

extension ParallelEndToEnd {
    /// `pulsefs alive`, `touch`, `forget` and `doctor`, with the real program.
    @Suite(.inEachScope) struct InspectionTests {
        private struct Answer: Decodable {
            struct Runtime: Decodable {
                let id: String
                let state: String
                let ageSeconds: Double?
            }
            let town: String
            let allAlive: Bool
            let runtimes: [Runtime]
        }

        private struct Diagnosis: Decodable {
            let town: String
            let mounted: Bool
            let verdict: String
            let findings: [Finding]

            subscript(check: String) -> Finding? { findings.first { $0.check == check } }
        }

        private func decode<Value: Decodable>(_ text: String) throws -> Value {
            try #require(JSONText.decode(text))
        }

        private func diagnose(_ town: MountedTown) throws -> Diagnosis {
            let outcome = try town.pulsefs("doctor", "--json", town.path)
            let diagnosis: Diagnosis = try decode(outcome.output)
            #expect(outcome.status == ["ok": 0, "warning": 0, "problem": 1, "unknown": 2][diagnosis.verdict])
            return diagnosis
        }

        // MARK: alive

        @Test func aliveAnswersForEveryIdByLineStatusAndJSON() throws {
            try withMountedTown { town in
                try town.touch("gt-crew-max")
                let all = try town.pulsefs("alive", town.path, "gt-crew-max")
                #expect(all.status == 0)
                #expect(all.output.hasPrefix("alive    gt-crew-max  0s ago  written"), "\(all.output)")
                let some = try town.pulsefs("alive", town.path, "nobody", "gt-crew-max")
                #expect(some.status == 1)
                #expect(some.output.hasPrefix("never    nobody\nalive    gt-crew-max"), "\(some.output)")
                #expect(all.errors == "" && some.errors == "")
                let json = try town.pulsefs("alive", town.path, "gt-crew-max", "a/b/c", "--json")
                #expect(json.status == 1)
                let answer: Answer = try decode(json.output)
                #expect(answer.town == town.path && !answer.allAlive)
                #expect(answer.runtimes.map(\.id) == ["gt-crew-max", "a/b/c"])
                #expect(answer.runtimes.map(\.state) == ["alive", "never"])
                #expect(answer.runtimes.map { $0.ageSeconds == nil } == [false, true])
            }
        }

        @Test func aliveReportsExpiredRuntimes() throws {
            try withMountedTown("--ttl", "10ms") { town in
                try town.touch("gt-crew-max")
                #expect(
                    try eventually {
                        let outcome = try town.pulsefs("alive", town.path, "gt-crew-max")
                        return outcome.status == 1 && outcome.output.hasPrefix("expired  gt-crew-max")
                    })
            }
        }

        @Test(arguments: ["", " ", "a\nb", "\u{7f}", "\u{202e}a", String(repeating: "%", count: 86)])
        func badIdIsAWrongArgumentWithItsReason(id: String) throws {
            try withMountedTown { town in
                for command in ["alive", "touch", "forget"] {
                    let outcome = try town.pulsefs(command, town.path, id)
                    #expect(outcome.status == 64, "\(command)")
                    #expect(outcome.errors.contains("runtime id"), "\(outcome.errors)")
                    #expect(outcome.output == "")
                }
            }
        }

        @Test func aliveReportsNoAnswerForADeadTown() throws {
            try withTown { town in
                func outcome(_ path: String) throws -> Command.Outcome {
                    let outcome = try town.pulsefs("alive", path, "mayor", "--json")
                    #expect(outcome.output == "")
                    #expect(outcome.errors.split(separator: "\n").count == 1)
                    return outcome
                }
                #expect(try outcome(town.path).status == 2)
                #expect(try outcome(town.path + "/none").status == 2)
                try town.mount()
                let status = try town.status()
                kill(status.workerPid, SIGSTOP)
                let silent = try outcome(town.path)
                #expect(silent.status == 2 && silent.errors.contains("does not answer"), "\(silent)")
                town.killAll()
                #expect(eventually { town.processes.isEmpty })
                let dead = try outcome(town.path)
                #expect(dead.status == 2 && dead.errors.contains("have ended"), "\(dead)")
                // The doctor's view of a dead mount.
                let diagnosis = try diagnose(town)
                #expect(diagnosis["mount"]?.level == .problem)
                try town.mount()
                try town.unmount()
            }
        }

        @Test(.needsRoot, .needs("setpriv")) func aliveReportsNoAnswerForAnotherUsersTown() throws {
            try withMountedTown { town in
                let program = "\(town.scratch.path)/pulsefs"
                try Command("install", "-m", "755", BuiltProgram.path, program).output()
                let alive = try Command(program, "alive", town.path, "mayor", as: .nobody).run()
                #expect(alive.status == 2 && alive.errors.contains("another user"), "\(alive)")
                let doctor = try Command(program, "doctor", town.path, as: .nobody).run()
                #expect(doctor.status == 2 && doctor.output.contains("unknown  mount"), "\(doctor)")
            }
        }

        // MARK: touch and forget

        private func state(_ id: String, in town: MountedTown) throws -> String {
            let answer: Answer = try decode(town.pulsefs("alive", "--json", town.path, id).output)
            return answer.runtimes.map(\.state).joined()
        }

        /// Each id is under the one before it, so all but the last are also directories.
        private static let ids = ["deacon", "deacon/boot", "deacon/boot/x", "gastown/polecats/furiosa"]

        @Test func touchedIsAliveAndForgottenIsNever() throws {
            try withMountedTown("--ttl", "1h") { town in
                for id in Self.ids + Self.ids.reversed() {
                    let outcome = try town.pulsefs("touch", town.path, id)
                    #expect(outcome.status == 0 && outcome.output == "" && outcome.errors == "", "\(outcome)")
                }
                for id in Self.ids { #expect(try state(id, in: town) == "alive", "\(id)") }
                for id in Self.ids {
                    #expect(try town.pulsefs("forget", town.path, id).status == 0, "\(id)")
                    #expect(try state(id, in: town) == "never", "\(id)")
                }
                // Once more, and an unknown runtime.
                for id in Self.ids + ["nobody", "no/bo/dy"] {
                    let outcome = try town.pulsefs("forget", town.path, id)
                    #expect(outcome.status == 0 && outcome.errors == "", "\(outcome)")
                }
                #expect(try Client.names(in: "\(town.path)/.pulse/alive") == [])
            }
        }

        @Test func touchProvesLifeForItsTTL() throws {
            try withMountedTown("--ttl", "1h") { town in
                #expect(try town.pulsefs("touch", town.path, "brief", "--ttl", "50ms").status == 0)
                #expect(try eventually { try state("brief", in: town) == "expired" })
                // Expired runtimes can be forgotten as well.
                #expect(try town.pulsefs("forget", town.path, "brief").status == 0)
                #expect(try state("brief", in: town) == "never")
                let wrong = try town.pulsefs("touch", town.path, "brief", "--ttl", "90")
                #expect(wrong.status == 64 && wrong.errors.contains("90"), "\(wrong)")
                #expect(try state("brief", in: town) == "never")
            }
        }

        @Test func touchNeedsAMount() throws {
            try withTown { town in
                for command in ["touch", "forget"] {
                    let outcome = try town.pulsefs(command, town.path, "mayor")
                    #expect(outcome.status == 3 && outcome.errors.contains(town.path), "\(outcome)")
                }
                #expect(!Client.exists("\(town.path)/.pulse"))
            }
        }

        // MARK: doctor

        @Test func doctorFindsNothingWrongWithAMountedTown() throws {
            try withMountedTown { town in
                try town.touch("gt-crew-max")
                let diagnosis = try diagnose(town)
                #expect(diagnosis.town == town.path && diagnosis.mounted)
                for check in ["mount", "processes", "documents", "write-back", "mirror"] {
                    #expect(diagnosis[check]?.level == .ok, "\(String(describing: diagnosis[check]))")
                }
                let lines = try town.pulsefs("doctor", town.path).output.split(separator: "\n")
                #expect(lines.count == diagnosis.findings.count)
                #expect(lines.first?.hasPrefix("ok       mount: served by worker") == true)
            }
        }

        @Test(.townScopeOnly("the town root is not mounted over"))
        func doctorNamesProcessesInTheBackingDirectory() throws {
            try withTown { town in
                let sleeper = try Command("sleep", "60", in: town.path).start()
                #expect(eventually { Client.isProcess(sleeper.pid, in: town.path) })
                let before = try diagnose(town)
                #expect(!before.mounted)
                #expect(before["bypass"]?.level == .warning)
                #expect(before["bypass"]?.finding.contains("\(sleeper.pid)") == true)
                try town.mount()
                let after = try diagnose(town)
                #expect(after["bypass"]?.level == .problem)
                #expect(after["bypass"]?.finding.contains("\(sleeper.pid): its current directory") == true)
                // The later process has the mounted directory.
                let late = try Command("sleep", "60", in: town.path).start()
                #expect(eventually { Client.isProcess(late.pid, in: town.path) })
                #expect(try diagnose(town)["bypass"]?.finding.contains("\(late.pid)") == false)
                late.send(SIGKILL)
                sleeper.send(SIGKILL)
                _ = try late.wait()
                _ = try sleeper.wait()
                // This process remains: it holds the backing directory.
                let then = try diagnose(town)
                #expect(then["bypass"]?.finding.contains("\(sleeper.pid)") == false)
                #expect(then["bypass"]?.finding.contains("(pid \(getpid()): file \(town.path))") == true)
                try town.unmount()
            }
        }

        @Test(.townScopeOnly("a directory of the name is what .pulse is mounted over"))
        func doctorReportsRejectionsAndHeartbeats() throws {
            try withTown { town in
                try Client.write(KeepaliveDocument.text("gt"), to: town.activity)
                try Client.makeDirectory("\(town.path)/.pulse")
                let before = try diagnose(town)
                #expect(before["heartbeats"]?.finding.contains("daemon/activity.json") == true)
                #expect(before[".pulse"]?.level == .warning)
                try town.mount()
                #expect(throws: (any Error).self) { try Client.write("{", to: town.activity) }
                let after = try diagnose(town)
                #expect(after["documents"]?.level == .warning)
                #expect(
                    after["documents"]?.finding.contains("refused 1 write: refused a write to daemon/activity.json")
                        == true)
                #expect(after[".pulse"]?.level == .warning)
                #expect(after["heartbeats"] == nil)
                try town.unmount()
            }
        }

        @Test func doctorFailsWithoutATown() throws {
            try withTown { town in
                let outcome = try town.pulsefs("doctor", "\(town.path)/none")
                #expect(outcome.status == 2 && outcome.output == "", "\(outcome)")
            }
        }

        // MARK: completion

        @Test func idsAreCompletedFromTheTown() throws {
            try withMountedTown { town in
                for id in ["gt-crew-max", "gt-crew-moe", "other"] { try town.touch(id) }
                // bash would run it.
                for id in ["gt-crew-$(reboot)", "gt-crew-a b", "gt-crew-`x`"] { try town.touch(id) }
                let words = ["pulsefs", "alive", town.path, "gt-crew-"]
                let ids = RuntimeReport.completions(for: words, beginningWith: "gt-crew-")
                #expect(ids == ["gt-crew-max", "gt-crew-moe"])
                #expect(RuntimeReport.completions(for: ["pulsefs", "alive", "--json"], beginningWith: "") == [])
                #expect(RuntimeReport.completions(for: ["pulsefs", "touch", "/nowhere", ""], beginningWith: "") == [])
            }
        }
    }
}
