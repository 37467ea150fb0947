import Glibc
import Testing

extension EndToEnd {
    /// A town at its busiest.
    @Suite(.needs("python3", "cc")) struct CrowdTests {
        private static let agents = 200
        private static func id(_ number: Int) -> String { "gastown/polecats/p\(number)" }

        /// What names an agent where its heartbeat file does not, by its number; `AgentPrograms.crowd` sees to that.
        private static func evidence(_ number: Int) -> String {
            switch number % 10 {
            case 0..<4: "GT_ROLE"
            case 4, 5: "BD_ACTOR"
            case 6: "directory"
            case 7, 8: "GT_SESSION"
            default: "document"
            }
        }

        /// 200 agents of four processes, 20,000 touches and as many changes of ordinary files.
        @Test func everyTouchOfTwoHundredAgentsIsTheirs() throws {
            try withTown(limit: .seconds(240)) { town in
                try writeRigs(to: town.path)
                for number in 0..<Self.agents + 20 {
                    // Some of them are never heard of.
                    try Command("mkdir", "-p", "\(town.path)/\(Self.id(number))").output()
                }
                try Command("mkdir", "-p", "\(town.path)/gastown/mayor/rig").output()
                try town.mount()
                try Agents.with(in: town) { agents in
                    let program = try agents.compile(AgentPrograms.crowd, as: "claude-of-many")
                    let done = "\(town.scratch.path)/done"
                    let start = ContinuousClock.now
                    let crowd = try Command(
                        program, done, "\(Self.agents)", environment: agents.environment, limit: .seconds(200)
                    ).start()
                    let isDone = eventually(within: .seconds(180)) { Client.exists(done) || !crowd.isRunning }
                    try #require(isDone && crowd.isRunning, "\(crowd.printedErrors)")

                    #expect(try town.runtimes() == Set((0..<Self.agents).map(Self.id)))
                    for number in 0..<Self.agents {
                        let view = try #require(try town.runtime(Self.id(number)))
                        #expect(view.state == "alive")
                        // Of each kind of file the last that it says is its own.
                        let command = try #require(view.lastCommand)
                        #expect(command.hasPrefix("p\(number) ") || ["gt prime", "gt mail"].contains(command))
                    }
                    let documents = try town.status().documents
                    #expect(documents.touches == 20_000 + 2 * Self.agents)
                    #expect(documents.refused == 0)
                    let lines = try town.shell("cat gastown/polecats/p*/*.log | wc -l")
                    #expect(lines == "20000\n")

                    // All of them end at once.
                    let areWatched = try eventually {
                        try (0..<Self.agents).allSatisfy {
                            try Self.evidence($0) == "document" || town.runtime(Self.id($0))?.rootPid != nil
                        }
                    }
                    #expect(areWatched)
                    kill(-crowd.pid, SIGKILL)
                    _ = try crowd.wait()
                    let end = ContinuousClock.now
                    let haveExited = try eventually {
                        try town.status().runtimes.alive == (0..<Self.agents).count { Self.evidence($0) == "document" }
                    }
                    #expect(haveExited)
                }
                try town.unmount()
            }
        }
    }
}
