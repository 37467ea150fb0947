import Testing

@testable import Liveness

/// What a process inherits from its parent.
@Suite(.timeLimit(.minutes(5))) struct LineageTests {
    private func writer(_ commandLine: [String], _ environment: [IdentityClaims.Variable: String] = [:])
        -> IdentityClaims
    {
        IdentityClaims(
            commandLine: commandLine.map { Array($0.utf8) }, environment: environment.mapValues { Array($0.utf8) })
    }

    private func attribution(
        of writer: IdentityClaims, document: String? = nil, in directory: String? = nil
    ) -> String {
        Attribution(
            of: writer, workingDirectory: directory.map { Array($0.utf8) }, sessions: SessionNames()
        ).consulting(document.flatMap { Document(Array($0.utf8)).actor }).description
    }

    @Test func childrenOfTheStatusLineIdentifyNoRuntime() {
        let statusLine = writer(["gt", "status-line", "--session", "x"], [.role: "mayor"])
        let git = writer(["git", "branch"], [.role: "mayor"]).started(by: statusLine)
        #expect(attribution(of: git, in: "mayor") == "excluded")
        let grandchild = writer(["gt", "mail"], [.role: "mayor"]).started(by: git)
        #expect(attribution(of: grandchild) == "excluded")
    }

    @Test func childrenOfTheDaemonAreNotTheAgentOfTheirDirectory() {
        let daemon = writer(["/usr/bin/gt", "daemon", "run"])
        let git = writer(["git", "status"]).started(by: daemon)
        #expect(attribution(of: git, in: "gastown/polecats/nux") == "nobody")
        #expect(attribution(of: writer(["ssh"]).started(by: git), in: "gastown/polecats/nux") == "nobody")
        #expect(attribution(of: git, document: #"{"actor":"mayor"}"#, in: "gastown/crew/max") == "mayor by document")
        let agent = writer(["claude"], [.role: "gastown/nux"]).started(by: daemon)
        #expect(attribution(of: agent, in: "mayor") == "gastown/polecats/nux by GT_ROLE")
    }

    @Test func otherChildrenAreAttributedByThemselves() {
        let agent = writer(["claude"], [.role: "mayor"])
        let shell = writer(["sh"]).started(by: agent)
        #expect(attribution(of: shell, in: "gastown/crew/max") == "gastown/crew/max by directory")
        let server = writer(["tmux", "new-session"], [.role: "mayor"])
        let pane = writer(["sh"]).started(by: server)
        #expect(attribution(of: pane, in: "gastown/crew/max") == "gastown/crew/max by directory")
        #expect(attribution(of: server, in: "gastown/crew/max") == "nobody")
        #expect(attribution(of: writer(["gt", "daemon", "run"]).started(by: agent)) == "daemon by command")
    }
}
