import TestSupport
import Testing

extension ParallelEndToEnd {
    /// execve(2) closes files while it holds a lock that reading `/proc` takes, too.
    ///
    /// Inspecting the closing process then, or the writer if it is the same process, would deadlock.
    @Suite(.needs("python3", "cc")) struct ExecTests {
        private static let nux = "gastown/polecats/nux"

        /// How a process is identified.
        struct Method: Sendable, CustomTestStringConvertible {
            let by: String
            var environment: [String: String] = [:]
            var testDescription: String { by }
        }

        static let ways = [Method(by: "GT_ROLE", environment: ["GT_ROLE": nux]), Method(by: "directory")]

        private func expectNoHang(
            _ way: Method, _ code: String, shows command: String, _ location: SourceLocation = #_sourceLocation
        ) throws {
            try withAgents(limit: .seconds(20)) { town, agents in
                let agent = try agents.start(environment: way.environment, in: Self.nux)
                try Client.write(KeepaliveDocument.text("gt sling"), to: town.keepalive)
                #expect(try town.runtimes() == [], sourceLocation: location)
                try agent.perform(code, within: .seconds(5))
                let seen = try eventually { try town.runtime(Self.nux)?.lastCommand == command }
                #expect(seen, sourceLocation: location)
                let view = try #require(try town.runtime(Self.nux), sourceLocation: location)
                #expect(view.evidence.by == way.by, sourceLocation: location)
                #expect(view.evidence.source == "written", sourceLocation: location)
                #expect(view.evidence.program == "claude", sourceLocation: location)
            }
        }

        /// An agent with threads: one starts a tool while another is about to write.
        @Test(arguments: ways) func toolThatIsStartedBeforeTheWriteIsNotHeldUp(_ way: Method) throws {
            try expectNoHang(
                way,
                """
                file = os.open(keepalive, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC)
                run("true")
                os.write(file, document(last_command="gt prime").encode())
                os.close(file)
                """, shows: "gt prime")
        }

        @Test(arguments: ways) func execAfterAWriteDoesNotBlock(_ way: Method) throws {
            try expectNoHang(
                way,
                """
                def write_and_go():
                    file = os.open(keepalive, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC)
                    os.write(file, document(last_command="gt prime").encode())
                    os.execvp("true", ["true"])
                wait(fork(write_and_go))
                """, shows: "gt prime")
        }

        @Test(arguments: ways) func execAfterTruncatingDoesNotBlock(_ way: Method) throws {
            try expectNoHang(
                way,
                """
                def empty_and_go():
                    file = os.open(keepalive, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC)
                    os.execvp("true", ["true"])
                wait(fork(empty_and_go))
                """, shows: "gt sling")
        }

        @Test(arguments: ways) func execAfterFtruncateDoesNotBlock(_ way: Method) throws {
            try expectNoHang(
                way,
                """
                def cut_and_go():
                    file = os.open(keepalive, os.O_WRONLY | os.O_CLOEXEC)
                    os.ftruncate(file, 0)
                    os.execvp("true", ["true"])
                wait(fork(cut_and_go))
                """, shows: "gt sling")
        }
    }
}
