import FoundationEssentials
import Glibc
import TestSupport
import Testing

extension EndToEnd {
    /// A town at its busiest.
    @Suite(.needs("python3", "cc")) struct CrowdTests {
        private static let agents = 200
        private static func id(_ number: Int) -> String { "gastown/polecats/p\(number)" }

        /// The evidence that identifies an agent, by its number, besides its heartbeat file; set by
        /// `AgentPrograms.crowd`.
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
                    // Some processes are never seen.
                    try Command("mkdir", "-p", "\(town.path)/\(Self.id(number))").output()
                }
                try Command("mkdir", "-p", "\(town.path)/gastown/mayor/rig").output()
                try town.mount()
                try Agents.with(in: town) { agents in
                    let program = try agents.compile(AgentPrograms.crowd, as: "claude-of-many")
                    let done = "\(town.scratch.path)/done"
                    let reader = try Command("cat", "\(town.path)/.pulse/events", limit: .seconds(230)).start()
                    #expect(try eventually { try town.status().events?.readers == 1 })
                    let crowd = try Command(
                        program, done, "\(Self.agents)", environment: agents.environment, limit: .seconds(200)
                    ).start()
                    let isDone = eventually(within: .seconds(180)) { Client.exists(done) || !crowd.isRunning }
                    try #require(isDone && crowd.isRunning, "\(crowd.printedErrors)")

                    #expect(try town.runtimes() == Set((0..<Self.agents).map(Self.id)))
                    for number in 0..<Self.agents {
                        let view = try #require(try town.runtime(Self.id(number)))
                        #expect(view.state == "alive")
                        // The last document of each kind of file is its own.
                        let command = try #require(view.lastCommand)
                        #expect(command.hasPrefix("p\(number) ") || ["gt prime", "gt mail"].contains(command))
                    }
                    let documents = try town.status().documents
                    #expect(documents.touches == 20_000 + 2 * Self.agents)
                    #expect(documents.refused == 0)
                    let lines = try town.shell("cat gastown/polecats/p*/*.log | wc -l")
                    #expect(lines == "20000\n")

                    try expectEvents(from: reader, in: town)
                    try expectMetrics(in: town)

                    // All exit at once.
                    let areWatched = try eventually {
                        try (0..<Self.agents).allSatisfy {
                            try Self.evidence($0) == "document" || town.runtime(Self.id($0))?.rootPid != nil
                        }
                    }
                    #expect(areWatched)
                    let promise = Promise(.seconds(5))
                    kill(-crowd.pid, SIGKILL)
                    _ = try crowd.wait()
                    let haveExited = try eventually(within: promise) {
                        try town.status().runtimes.alive == (0..<Self.agents).count { Self.evidence($0) == "document" }
                    }
                    #expect(haveExited)
                    let exits = try town.metric("pulsefs_runtime_exits_total")
                    #expect(exits == (0..<Self.agents).count { Self.evidence($0) != "document" })
                    reader.send(SIGTERM)
                    _ = try reader.wait()
                }
                try town.unmount()
            }
        }

        private struct Event: Decodable {
            let seq: Int?
            let event: String
            let runtime: String?
            let signal: String?
            let source: String?
            let by: String?
        }

        /// Complete and in order, with one event for each touch.
        private func expectEvents(from reader: RunningCommand, in town: MountedTown) throws {
            let last = try #require(try town.status().events?.lastSeq)
            var events: [Event] = []
            let isWhole = eventually(within: .seconds(20)) {
                let end = reader.printed.split(separator: "\n").last ?? ""
                let event = try? JSONDecoder().decode(Event.self, from: Data(end.utf8))
                return event?.seq ?? 0 >= last
            }
            #expect(isWhole)
            for line in reader.printed.split(separator: "\n") {
                events.append(try JSONDecoder().decode(Event.self, from: Data(line.utf8)))
            }
            #expect(events.prefix(last).map(\.seq) == (1...last).map { $0 })
            #expect(Set(events.map(\.event)) == ["touched"])
            let touches = events.filter { $0.source == "written" || $0.source == "renamed" }
            #expect(touches.count == 20_000 + 2 * Self.agents)
            let named = Dictionary(grouping: touches) { $0.runtime ?? "nobody" }
            for number in 0..<Self.agents {
                let own = named[Self.id(number)] ?? []
                #expect(own.count == 100)
                let isOwnPath = { (event: Event) in event.signal == ".runtime/heartbeats/gt-p\(number).json" }
                #expect(own.filter { $0.by == "path" }.allSatisfy(isOwnPath))
                #expect(own.filter { $0.by != "path" }.allSatisfy { $0.by == Self.evidence(number) && !isOwnPath($0) })
            }
            // The rest is `gt status-line`.
            #expect(named["nobody"]?.count == 2 * Self.agents && named.count == Self.agents + 1)
            let ids = Set((0..<Self.agents).map(Self.id))
            #expect(events.filter { $0.source == "activity" }.allSatisfy { ids.contains($0.runtime ?? "") })
        }

        private func expectMetrics(in town: MountedTown) throws {
            // Each kind has 20 of the 200 agents. Every fourth touch, except tools', is to an own file.
            let expected = [
                "path": 180 * 32 + 20 * 36, "GT_ROLE": 80 * 68, "BD_ACTOR": 40 * 68, "directory": 20 * 68,
                "GT_SESSION": 40 * 68, "document": 20 * 64, "excluded": 400, "nobody": 0,
            ]
            for (by, count) in expected {
                #expect(try town.metric(#"pulsefs_attributions_total{by="\#(by)"}"#) == count, "\(by)")
            }
            #expect(try town.metric(#"pulsefs_touches_total{source="written"}"#) == 14_000)
            #expect(try town.metric(#"pulsefs_touches_total{source="renamed"}"#) == 6_400)
            #expect(try town.metric(#"pulsefs_runtimes{state="alive"}"#) == Self.agents)
            #expect(try town.metric("pulsefs_events_lost_total") == 0)
            #expect(try town.metric("pulsefs_refused_writes_total") == 0)
        }
    }
}
