import Liveness
import Testing

@Suite(.timeLimit(.minutes(5))) struct AttributionTests {
    // MARK: 0, the command

    @Test(arguments: [
        Case(command: "gt status-line --session=gt-nux", [.role: "gastown/polecats/nux"], is: "excluded"),
        Case(command: "/usr/local/bin/gt status-line", in: "mayor", is: "excluded"),
        Case(command: "gt --verbose status-line", [.formerBeadsActor: "mayor"], is: "excluded"),
        Case(command: "gt nudge-poller gt-nux", [.role: "mayor"], is: "excluded"),
        Case(command: "gt agent-log --follow", [.role: "mayor"], in: "mayor", is: "excluded"),
        Case(
            command: "/opt/town nudge-poller x", [.role: "mayor", .init(rawValue: "GT_COMMAND"): "/opt/town"],
            is: "excluded"),
        Case(
            command: "town nudge-poller x", [.role: "mayor", .init(rawValue: "GT_COMMAND"): "/opt/town"],
            is: "excluded"),
        Case(
            command: "town daemon run", [.role: "mayor", .init(rawValue: "GT_COMMAND"): "town"],
            is: "daemon by command"),
        Case(command: "town nudge-poller x", [.role: "mayor"], is: "mayor by GT_ROLE"),
        Case(command: "gt daemon run", is: "daemon by command"),
        Case(command: "/root/go/bin/gt daemon run", [.role: "mayor"], in: "mayor", is: "daemon by command"),
        Case(command: "gt daemon start", [.role: "mayor"], is: "mayor by GT_ROLE"),
        Case(command: "gt daemon", [.role: "mayor"], is: "mayor by GT_ROLE"),
        Case(command: "gt run daemon", [.role: "mayor"], is: "mayor by GT_ROLE"),
        Case(command: "gt mail send status-line", [.role: "mayor"], is: "mayor by GT_ROLE"),
        Case(command: "bd status-line", [.role: "mayor"], is: "mayor by GT_ROLE"),
        Case(command: "notgt status-line", [.role: "mayor"], is: "mayor by GT_ROLE"),
        Case(command: "gt", [.role: "mayor"], is: "mayor by GT_ROLE"),
        Case(command: "status-line", [.role: "mayor"], is: "mayor by GT_ROLE"),
        Case(command: "- -- gt", [.role: "mayor"], is: "mayor by GT_ROLE"),
    ])
    func commandsThatRunAsThemselvesAreKnown(_ it: Case) { it.check() }

    // MARK: 1, the path

    @Test(arguments: [
        Case(signal: "deacon/heartbeat.json", is: "deacon by path"),
        Case(signal: "deacon/.deacon-heartbeat", is: "deacon by path"),
        Case(signal: ".runtime/heartbeats/gt-nux.json", is: "gastown/polecats/nux by path"),
        Case(signal: ".runtime/heartbeats/gt-witness.json", is: "gastown/witness by path"),
        Case(signal: ".runtime/heartbeats/hq-mayor.json", is: "mayor by path"),
        Case(signal: "gastown/.runtime/heartbeats/gt-crew-max.json", is: "gastown/crew/max by path"),
        // An unknown prefix.
        Case(signal: ".runtime/heartbeats/xx-nux.json", is: "xx-nux by path"),
        Case(signal: ".runtime/heartbeats/nux.json", is: "nux by path"),
        Case(signal: ".runtime/heartbeats/gt nux.json", is: "gt nux by path"),
        Case(signal: ".runtime/heartbeats/...json", is: ".. by path"),
        Case(signal: "gastown/deacon/heartbeat.json", is: "nobody"),
        Case(signal: "deacon/heartbeat.json.tmp", is: "nobody"),
        Case(signal: ".runtime/keepalive.json", is: "nobody"),
        Case(signal: "daemon/activity.json", is: "nobody"),
        Case(signal: "", is: "nobody"),
    ])
    func signalFileOfOneRuntimeNamesIt(_ it: Case) { it.check() }

    // MARK: 2, GT_ROLE

    @Test(arguments: [
        Case([.role: "mayor"], is: "mayor by GT_ROLE"),
        Case([.role: "deacon"], is: "deacon by GT_ROLE"),
        Case([.role: "deacon/boot"], is: "deacon/boot by GT_ROLE"),
        Case([.role: "deacon/dogs/alpha"], is: "deacon/dogs/alpha by GT_ROLE"),
        Case([.role: "gastown/witness"], is: "gastown/witness by GT_ROLE"),
        Case([.role: "gastown/refinery"], is: "gastown/refinery by GT_ROLE"),
        Case([.role: "gastown/polecats/Nux"], is: "gastown/polecats/Nux by GT_ROLE"),
        Case([.role: "gastown/crew/max"], is: "gastown/crew/max by GT_ROLE"),
        Case([.role: "gastown/nux"], is: "gastown/polecats/nux by GT_ROLE"),
        Case([.role: "my-rig_2.0/crew/a.b-c_d"], is: "my-rig_2.0/crew/a.b-c_d by GT_ROLE"),
        Case([.role: " \tgastown//polecats/nux/\n"], is: "gastown/polecats/nux by GT_ROLE"),
        Case([.role: "mayor/"], is: "mayor by GT_ROLE"),
        Case([.role: "gastown/polecats/a..b"], is: "gastown/polecats/a..b by GT_ROLE"),
    ])
    func addressInRoleNamesItsAgent(_ it: Case) { it.check() }

    @Test(arguments: [
        Case([.role: "polecat", .rig: "gastown", .polecat: "nux"], is: "gastown/polecats/nux by GT_ROLE"),
        Case([.role: "crew", .rig: "gastown", .crew: "max"], is: "gastown/crew/max by GT_ROLE"),
        Case([.role: "crew", .rig: "gastown", .crew: "max", .polecat: "x"], is: "gastown/crew/max by GT_ROLE"),
        Case([.role: "dog", .dogName: "alpha"], is: "deacon/dogs/alpha by GT_ROLE"),
        Case([.role: "witness", .rig: "gastown"], is: "gastown/witness by GT_ROLE"),
        Case([.role: " refinery/ ", .rig: " gastown\n"], is: "gastown/refinery by GT_ROLE"),
        Case([.role: "boot"], is: "deacon/boot by GT_ROLE"),
        Case([.role: "gastown-crew-max"], is: "gastown/crew/max by GT_ROLE"),
        Case([.role: "gastown-witness"], is: "gastown/witness by GT_ROLE"),
        Case([.role: "gastown-refinery"], is: "gastown/refinery by GT_ROLE"),
        Case([.role: "my-rig-crew-max-2"], is: "my-rig/crew/max-2 by GT_ROLE"),
    ])
    func olderRolesNameTheirAgentToo(_ it: Case) { it.check() }

    @Test(arguments: [
        // Incomplete.
        Case([.role: "polecat"]), Case([.role: "polecat", .rig: "gastown"]), Case([.role: "polecat", .polecat: "nux"]),
        Case([.role: "polecat", .rig: "gastown", .crew: "nux"]), Case([.role: "crew", .rig: "gastown", .crew: ""]),
        Case([.role: "dog"]), Case([.role: "witness"]), Case([.role: "refinery", .rig: " "]),
        Case([.rig: "gastown", .polecat: "nux"]), Case([.role: "gastown/polecats"]), Case([.role: "gastown/crew/"]),
        Case([.role: "deacon/dogs"]), Case([.role: "-witness"]), Case([.role: "gastown-crew-"]),
        // Too long.
        Case([.role: "gastown/polecats/nux/src"]), Case([.role: "gastown/witness/1"]), Case([.role: "/mayor"]),
        Case([.role: "witness", .rig: "a/b"]), Case([.role: "dog", .dogName: "a/b"]),
        Case([.role: "crew", .rig: "gastown", .crew: "a/b"]),
        // Reserved words in the wrong place.
        Case([.role: "gastown/mayor"]), Case([.role: "mayor/nux"]), Case([.role: "deacon/witness"]),
        Case([.role: "daemon/plugin"]), Case([.role: "polecats/nux"]), Case([.role: "mayor/crew/max"]),
        Case([.role: "deacon-witness"]), Case([.role: ".beads/nux"]), Case([.role: "gastown/dogs/alpha"]),
        Case([.role: "../crew/max"]), Case([.role: "gastown/crew/.."]), Case([.role: "./nux"]),
        // Other text.
        Case([.role: ""]), Case([.role: "/"]), Case([.role: "Mayor"]), Case([.role: "overseer"]),
        Case([.role: "Jane Doe"]), Case([.role: "gastown/crew/müller"]), Case([.role: "gastown/crew/a b"]),
    ])
    func otherRolesIdentifyNoRuntime(_ it: Case) { it.check() }

    // MARK: 3 and 4, actors

    @Test(arguments: [
        ("mayor", "mayor"), ("deacon", "deacon"), ("deacon-boot", "deacon/boot"), ("deacon/boot", "deacon/boot"),
        ("daemon", "daemon"), ("deacon/dogs/alpha", "deacon/dogs/alpha"), ("gastown/witness", "gastown/witness"),
        ("gastown-witness", "gastown/witness"), ("gastown-refinery", "gastown/refinery"),
        ("gastown/polecats/nux", "gastown/polecats/nux"), ("gastown/crew/max", "gastown/crew/max"),
        ("gastown-crew-max", "gastown/crew/max"), ("gastown/nux", "gastown/polecats/nux"), ("mayor/", "mayor"),
        ("jane", nil), ("Jane Doe", nil), ("jane@example.com", nil), ("overseer", nil), ("dog", nil),
        ("polecat", nil), ("unknown", nil), ("gastown-nux", nil), ("", nil),
    ])
    func actorIsReadAlikeInEnvironmentAndDocument(_ actor: String, _ runtime: String?) {
        Case([.formerBeadsActor: actor], is: runtime.map { "\($0) by BD_ACTOR" } ?? "nobody").check()
        let document = #"{"last_command":"bd ready","actor":"\#(actor)"}"#
        Case(document: document, is: runtime.map { "\($0) by document" } ?? "nobody").check()
    }

    @Test(arguments: [
        Case(document: #"{"Actor":"gastown\/nux"}"#, is: "gastown/polecats/nux by document"),
        Case(document: #"{"actor":"mayor","actor":"deacon"}"#, is: "deacon by document"),
        Case(document: #"{"actor":null}"#, is: "nobody"),
        Case(document: #"{"actor":["mayor"]}"#, is: "nobody"),
        Case(document: #"{"context":{"actor":"mayor"}}"#, is: "nobody"),
        Case(document: #"{"actor":"mayor""#, is: "nobody"),
        Case(document: "", is: "nobody"),
    ])
    func actorIsReadFromADocumentAsGoDoes(_ it: Case) { it.check() }

    // MARK: 5, directories

    @Test(arguments: [
        Case(in: "mayor", is: "mayor by directory"),
        Case(in: "mayor/rig/cmd", is: "mayor by directory"),
        Case(in: "deacon", is: "deacon by directory"),
        Case(in: "deacon/dogs", is: "deacon by directory"),
        Case(in: "deacon/dogs/alpha", is: "deacon/dogs/alpha by directory"),
        Case(in: "deacon/dogs/alpha/gastown", is: "deacon/dogs/alpha by directory"),
        Case(in: "deacon/dogs/boot", is: "deacon/boot by directory"),
        Case(in: "gastown/polecats/nux", is: "gastown/polecats/nux by directory"),
        Case(in: "gastown/polecats/nux/gastown/internal/my dir", is: "gastown/polecats/nux by directory"),
        Case(in: "gastown/crew/max/", is: "gastown/crew/max by directory"),
        Case(in: "gastown/witness", is: "gastown/witness by directory"),
        Case(in: "gastown/witness/rig", is: "gastown/witness by directory"),
        Case(in: "gastown/refinery/rig/a/b/c", is: "gastown/refinery by directory"),
        Case(in: "gastown/polecats/nux (deleted)", is: "gastown/polecats/nux by directory"),
        Case(in: "gastown/polecats/nux/src (deleted)", is: "gastown/polecats/nux by directory"),
        Case(in: "mayor (deleted)", is: "mayor by directory"),
        Case(in: "", is: "nobody"),
        Case(in: " (deleted)", is: "nobody"),
        Case(in: ".", is: "nobody"),
        Case(in: "/mayor", is: "nobody"),
        Case(in: "gastown", is: "nobody"),
        Case(in: "gastown/polecats", is: "nobody"),
        Case(in: "gastown/crew (deleted)", is: "nobody"),
        Case(in: "gastown/mayor/rig", is: "nobody"),
        Case(in: "gastown/docs/crew/max", is: "nobody"),
        Case(in: "daemon", is: "nobody"),
        Case(in: "logs/crew/max", is: "logs/crew/max by directory"),
        Case(in: ".beads/crew/max", is: "nobody"),
        Case(in: "daemon/polecats/nux", is: "nobody"),
        Case(in: "gastown/polecats/nux (deleted) (deleted)", is: "nobody"),
        Case(in: "gastown/polecats/my nux/src", is: "nobody"),
        Case(in: "gastown/polecats/nux/../../crew/max", is: "nobody"),
    ])
    func directoryIdentifiesItsAgent(_ it: Case) { it.check() }

    @Test func directoryIsReadOnlyWithoutEarlierEvidence() {
        let mayor = IdentityClaims(environment: [.role: Array("mayor".utf8)])
        var asked = 0
        func directory() -> [UInt8]? {
            asked += 1
            return nil
        }
        _ = Attribution(of: mayor, workingDirectory: directory(), sessions: SessionNames())
        #expect(asked == 0)
        _ = Attribution(of: IdentityClaims(), workingDirectory: directory(), sessions: SessionNames())
        #expect(asked == 1)
    }

    // MARK: 6, sessions

    @Test(arguments: [
        Case([.session: "hq-mayor"], is: "mayor by GT_SESSION"),
        Case([.session: "hq-deacon"], is: "deacon by GT_SESSION"),
        Case([.session: "hq-boot"], is: "deacon/boot by GT_SESSION"),
        Case([.session: "hq-dog-alpha"], is: "deacon/dogs/alpha by GT_SESSION"),
        Case([.session: "gt-witness"], is: "gastown/witness by GT_SESSION"),
        Case([.session: "gt-refinery"], is: "gastown/refinery by GT_SESSION"),
        Case([.session: "gt-crew-max"], is: "gastown/crew/max by GT_SESSION"),
        Case([.session: "gt-nux"], is: "gastown/polecats/nux by GT_SESSION"),
        Case([.session: "bd-nux"], is: "beads/polecats/nux by GT_SESSION"),
        Case([.session: " gt-Nux-2\n"], is: "gastown/polecats/Nux-2 by GT_SESSION"),
        // The longest prefix counts.
        Case([.session: "gt-web-nux"], is: "web/polecats/nux by GT_SESSION"),
        Case([.session: "gt-web-crew-max"], is: "web/crew/max by GT_SESSION"),
        Case([.session: "gt-web-ui-witness"], is: "web_ui/witness by GT_SESSION"),
        Case([.session: "gt-web-u-witness"], is: "web/polecats/u-witness by GT_SESSION"),
        Case([.session: "gt-web"], is: "gastown/polecats/web by GT_SESSION"),
        Case([.session: "gt-webber-nux"], is: "gastown/polecats/webber-nux by GT_SESSION"),
        Case([.session: "gt-web-crew"], is: "nobody"),
        // Sessions without an agent.
        Case([.session: "gt-"]), Case([.session: "gt"]), Case([.session: "-nux"]), Case([.session: "gt-crew-"]),
        Case([.session: "gt-crew"]), Case([.session: "gt-mayor"]), Case([.session: "xx-nux"]),
        Case([.session: "hq-overseer"]), Case([.session: "hq-dog-"]), Case([.session: "GT-nux"]),
        Case([.session: "gt-../x"]), Case([.session: "gt-a/b"]), Case([.session: "dotfiles-main"]),
        Case([.session: ""]), Case([.session: "two-nux"]), Case([.session: "bad-nux"]),
    ])
    func sessionIdentifiesItsAgent(_ it: Case) { it.check() }

    @Test(arguments: [
        Case([.beadsAgentName: "gastown/nux"], is: "gastown/polecats/nux by BEADS_AGENT_NAME"),
        Case([.beadsAgentName: "gastown/max", .crew: "max"], is: "gastown/crew/max by BEADS_AGENT_NAME"),
        Case([.beadsAgentName: "gastown/nux", .crew: "max"], is: "gastown/polecats/nux by BEADS_AGENT_NAME"),
        Case([.beadsAgentName: "gastown/crew/max"], is: "gastown/crew/max by BEADS_AGENT_NAME"),
        Case([.beadsAgentName: "gastown"], is: "nobody"),
        Case([.beadsAgentName: "gastown/"], is: "nobody"),
    ])
    func agentInBeadsIsBelieved(_ it: Case) { it.check() }

    @Test func changedPrefixesApplyToKnownProcesses() throws {
        let writer = IdentityClaims(environment: [.session: Array("gt-nux".utf8)])
        #expect(Attribution(of: writer, sessions: SessionNames()) == .unknown)
        #expect(Attribution(of: writer, sessions: Case.sessions).runtime?.description == "gastown/polecats/nux")
    }

    // MARK: Which rule decides

    @Test(arguments: [
        // 0 before 1
        Case(command: "gt status-line", signal: ".runtime/heartbeats/gt-nux.json", is: "excluded"),
        Case(
            command: "gt daemon run", signal: "deacon/heartbeat.json", is: "deacon by path, written by daemon"),
        // 1 before 2
        Case([.role: "mayor"], signal: "deacon/heartbeat.json", is: "deacon by path, written by mayor"),
        Case(
            [.role: "mayor"], signal: ".runtime/heartbeats/gt-nux.json",
            is: "gastown/polecats/nux by path, written by mayor"),
        Case([.role: "mayor"], signal: ".runtime/heartbeats/xx-nux.json", is: "xx-nux by path, written by mayor"),
        Case([.role: "gastown/nux"], signal: ".runtime/heartbeats/gt-nux.json", is: "gastown/polecats/nux by path"),
        Case([.session: "gt-nux"], signal: ".runtime/heartbeats/gt-nux.json", is: "gastown/polecats/nux by path"),
        // Its own heartbeat, although no rig has the prefix.
        Case(
            [.role: "gastown/nux", .session: "xx-nux"], signal: ".runtime/heartbeats/xx-nux.json",
            is: "xx-nux by path"),
        // A directory is weaker evidence than a path.
        Case(signal: ".runtime/heartbeats/gt-nux.json", in: "mayor", is: "gastown/polecats/nux by path"),
        Case([.role: "mayor"], signal: ".runtime/heartbeats/gt\nnux.json", is: "mayor by GT_ROLE"),
        // 2 before 3
        Case([.role: "gastown/nux", .formerBeadsActor: "daemon"], is: "gastown/polecats/nux by GT_ROLE"),
        Case([.role: "polecat", .formerBeadsActor: "gastown/polecats/nux"], is: "gastown/polecats/nux by BD_ACTOR"),
        Case([.role: "daemon/plugin", .formerBeadsActor: "daemon"], is: "daemon by BD_ACTOR"),
        Case([.role: "boot", .formerBeadsActor: "deacon-boot"], is: "deacon/boot by GT_ROLE"),
        // Within 3: the newer name first.
        Case([.beadsActor: "mayor", .formerBeadsActor: "daemon"], is: "mayor by BEADS_ACTOR"),
        Case([.beadsActor: "Jane Doe", .formerBeadsActor: "daemon"], is: "daemon by BD_ACTOR"),
        // Gas City's, after Gas Town's role.
        Case([.role: "mayor", Variables.alias: "a"], is: "mayor by GT_ROLE"),
        Case([Variables.alias: "a", Variables.agent: "b", .beadsActor: "mayor"], is: "a by GC_ALIAS"),
        Case([Variables.agent: "b", Variables.session: "c"], is: "b by GC_AGENT"),
        Case([Variables.session: "c"], is: "c by GC_SESSION_NAME"),
        Case([Variables.alias: " ", Variables.session: "c"], is: "c by GC_SESSION_NAME"),
        // 3 before 4
        Case(
            [.formerBeadsActor: "gastown/crew/max"], document: #"{"actor":"mayor"}"#,
            is: "mayor by document, written by gastown/crew/max"),
        Case([.formerBeadsActor: "mayor"], document: #"{"actor":"mayor"}"#, is: "mayor by BD_ACTOR"),
        Case(
            [.formerBeadsActor: "gastown/crew/max"], document: #"{"actor":"jane"}"#, is: "gastown/crew/max by BD_ACTOR"),
        Case([.role: "mayor"], document: #"{"\u0061ctor":"deacon"}"#, is: "deacon by document, written by mayor"),
        Case([.role: "mayor"], document: #"{"ACTOR":"deacon"}"#, is: "deacon by document, written by mayor"),
        Case([.formerBeadsActor: "Jane Doe"], document: #"{"actor":"mayor"}"#, is: "mayor by document"),
        // 4 before 5
        Case(document: #"{"actor":"mayor"}"#, in: "gastown/crew/max", is: "mayor by document"),
        Case(document: #"{"actor":"jane"}"#, in: "gastown/crew/max", is: "gastown/crew/max by directory"),
        // 2 before 5: a polecat that visits the mayor stays one.
        Case([.role: "gastown/polecats/nux"], in: "mayor/rig", is: "gastown/polecats/nux by GT_ROLE"),
        Case([.role: "polecat", .rig: "gastown"], in: "gastown/polecats/nux", is: "gastown/polecats/nux by directory"),
        // 5 before 6
        Case([.session: "gt-nux"], in: "gastown/crew/max", is: "gastown/crew/max by directory"),
        Case([.session: "gt-nux"], in: "", is: "gastown/polecats/nux by GT_SESSION"),
        Case([.beadsAgentName: "gastown/nux"], in: "mayor", is: "mayor by directory"),
        // Within 6
        Case([.session: "gt-nux", .beadsAgentName: "gastown/max"], is: "gastown/polecats/nux by GT_SESSION"),
        Case([.session: "xx-nux", .beadsAgentName: "gastown/max"], is: "gastown/polecats/max by BEADS_AGENT_NAME"),
        // All variables, as newer and older tools set them.
        Case(
            command: "gt mail send x",
            [
                .role: "gastown/polecats/nux", .rig: "gastown", .polecat: "nux",
                .formerBeadsActor: "gastown/polecats/nux",
                .session: "gt-nux", .beadsAgentName: "gastown/nux",
            ],
            signal: ".runtime/keepalive.json", document: #"{"last_command":"gt mail send x"}"#,
            in: "gastown/polecats/nux/gastown", is: "gastown/polecats/nux by GT_ROLE"),
        Case(
            command: "bd ready", [.role: "crew", .rig: "gastown", .crew: "max", .beadsAgentName: "gastown/max"],
            signal: "daemon/activity.json", document: #"{"actor":"gastown/crew/max"}"#, in: "gastown/crew/max",
            is: "gastown/crew/max by GT_ROLE"),
        Case(command: "gt status", signal: ".runtime/keepalive.json", in: "", is: "nobody"),
        Case(is: "nobody"),
    ])
    func firstEvidenceDecides(_ it: Case) { it.check() }

    // MARK: From /proc

    @Test func writerIsReadFromTheTextsInProc() {
        let environ = "PATH=/bin\0GT_ROLE=polecat\0GT_RIG=gastown\0GT_ROLE=mayor\0GT_ROLEX=x\0GT_POLECAT=nux\0=\0\0x"
        let writer = IdentityClaims(cmdline: Array("gt\0mail\0\0".utf8), environ: Array(environ.utf8), rules: .gasTown)
        #expect("\(Attribution(of: writer, sessions: Case.sessions))" == "gastown/polecats/nux by GT_ROLE")
    }

    @Test(arguments: [
        ("gt\0status-line\0--session=gt-nux\0", "excluded"), ("gt\0daemon\0run\0", "daemon by command"),
        ("gt\0daemon\0run", "daemon by command"), ("gt daemon run\0", "nobody"), ("\0\0", "nobody"), ("", "nobody"),
    ])
    func commandIsReadFromTheTextInProc(_ cmdline: String, _ result: String) {
        let writer = IdentityClaims(cmdline: Array(cmdline.utf8), environ: [], rules: .gasTown)
        #expect("\(Attribution(of: writer, sessions: Case.sessions))" == result)
    }

    @Test func rootOfTheTownIsNoIdentity() {
        let environ = "GT_ROOT=/town/gastown/crew/max\0GT_TOWN_ROOT=mayor\0"
        let writer = IdentityClaims(cmdline: [], environ: Array(environ.utf8), rules: .gasTown)
        #expect(Attribution(of: writer, sessions: Case.sessions) == .unknown)
    }

    @Test func writerKeepsNothingOfTheEnvironmentButIDs() {
        let secret = "sk-very/secret key"
        let environ =
            IdentityClaims.Variable.gasTown.map { "\($0.rawValue)=\(secret)\0" }.joined() + "API_KEY=\(secret)\0"
        let writer = IdentityClaims(cmdline: [], environ: Array(environ.utf8), rules: .gasTown)
        #expect(writer == IdentityClaims())
    }
}

// MARK: - Sessions

@Suite(.timeLimit(.minutes(5))) struct SessionNamesTests {
    @Test(arguments: [
        "", "null", "[]", #""rigs""#, #"{"rigs":"#, "{\"rigs\":{}}\u{FEFF}", "{\"rigs\":{\"a\":{}}} x",
    ])
    func nonObjectIsRefused(_ text: String) {
        #expect(SessionNames(rigsDocument: Array(text.utf8)) == nil)
    }

    @Test func invalidUTF8IsRefused() {
        #expect(SessionNames(rigsDocument: Array(#"{"rigs":{""#.utf8) + [0xFF] + Array(#"":{}}}"#.utf8)) == nil)
    }

    @Test(arguments: [
        "{}", #"{"rigs":null}"#, #"{"rigs":[]}"#, #"{"rigs":{}}"#, #"{"rigs":{"a":1,"b":null,"c":[]}}"#,
        #"{"rigs":{"a":{"beads":null},"b":{"beads":"x"},"c":{"beads":{}}}}"#,
        #"{"rigs":{"a":{"beads":{"prefix":1}},"b":{"beads":{"prefix":""}},"c":{"beads":{"prefix":"-"}}}}"#,
        #"{"beads":{"prefix":"gt"}}"#, #"{"rigs":{"beads":{"prefix":"gt"}}}"#,
        #"{"rigs":{"a":{"beads":{"prefix":"gt"}},"b":{"beads":{"prefix":"gt"}},"c":{"beads":{"prefix":"gt-"}}}}"#,
    ])
    func townWithoutPrefixesHasItsOwnSessionsOnly(_ text: String) {
        #expect(SessionNames(rigsDocument: Array(text.utf8)) == SessionNames())
    }

    @Test func rigsAreReadAsGoDoes() throws {
        let text = #"""
            {"version": 1, "Rigs": {
              "a\u0062": {"git_url": "x", "BEADS": {"prefix": "x"}, "beads": {"repo": "local", "prefix": "p1"}},
              "A": {"beads": {"prefix": "p2-"}},
              "c": {"beads": {"prefix": "p3"}},
              "c": {"beads": {"prefix": "p4"}}
            }}
            """#
        let names = try #require(SessionNames(rigsDocument: Array(text.utf8)))
        let runtimes = try ["x-n", "p1-n", "p2-n", "p3-n", "p4-n"].map { session in
            names.runtime(of: try RuntimeID(session))?.description
        }
        #expect(runtimes == [nil, "ab/polecats/n", "A/polecats/n", nil, "c/polecats/n"])
    }

    /// A prefix may be any text, and a session as well.
    @Test func sessionThatGastownDoesNotMakeIsNoAgent() throws {
        let text = #"{"rigs":{"gastown":{"beads":{"prefix":"gt"}},"k":{"beads":{"prefix":"K"}}}}"#
        let names = try #require(SessionNames(rigsDocument: Array(text.utf8)))
        for session in ["gt-a b", "gt-müller", "gt-crew-a%b", "hq-dog-a b", "\u{212A}-nux", "gt-nux/"] {
            #expect(names.runtime(of: try RuntimeID(session)) == nil, "\(session)")
            guard !session.contains("/") else { continue }
            let owner = SessionNames.owner(of: Array(".runtime/heartbeats/\(session).json".utf8), names)
            #expect(owner == (try RuntimeID(session)))
        }
    }

    @Test(arguments: ["mayor", "deacon", "..", ".hidden", "a/b", "a b", "", "müller"])
    func rigThatCannotBeInAnIDIdentifiesNoRuntime(_ rig: String) throws {
        let text = #"{"rigs":{"\#(rig)":{"beads":{"prefix":"gt"}}}}"#
        let names = try #require(SessionNames(rigsDocument: Array(text.utf8)))
        for session in ["gt-nux", "gt-witness", "gt-crew-max"] {
            #expect(names.runtime(of: try RuntimeID(session)) == nil)
        }
    }
}

/// Variables of Gas City.
private enum Variables {
    static let alias = IdentityClaims.Variable(rawValue: "GC_ALIAS")
    static let agent = IdentityClaims.Variable(rawValue: "GC_AGENT")
    static let session = IdentityClaims.Variable(rawValue: "GC_SESSION_NAME")
}

// MARK: - A case

/// A touch and its expected attribution.
struct Case: Sendable, CustomTestStringConvertible {
    /// Some prefixes start with others, one belongs to two rigs, and one rig's name is not valid in an id.
    static let sessions: SessionNames = {
        let prefixes = [
            ("gastown", "gt"), ("beads", "bd"), ("web", "gt-web"), ("web_ui", "gt-web-ui"), ("one", "two"),
            ("other", "two"), ("mayor", "bad"),
        ]
        let rigs = prefixes.map { #""\#($0)":{"beads":{"prefix":"\#($1)"}}"# }.joined(separator: ",")
        return SessionNames(rigsDocument: Array("{\"version\":1,\"rigs\":{\(rigs)}}".utf8)) ?? SessionNames()
    }()

    var command: [[UInt8]]
    var environment: [IdentityClaims.Variable: [UInt8]]
    var signal: [UInt8]?
    var document: [UInt8]?
    var directory: [UInt8]?
    var result: String

    init(
        command: String = "gt mail send x", _ environment: [IdentityClaims.Variable: String] = [:],
        signal: String? = nil,
        document: String? = nil, in directory: String? = nil, is result: String = "nobody"
    ) {
        self.command = command.split(separator: " ").map { Array($0.utf8) }
        self.environment = environment.mapValues { Array($0.utf8) }
        self.signal = signal.map { Array($0.utf8) }
        self.document = document.map { Array($0.utf8) }
        self.directory = directory.map { Array($0.utf8) }
        self.result = result
    }

    var attribution: Attribution {
        Attribution(
            of: IdentityClaims(commandLine: command, environment: environment),
            owner: signal.flatMap { SessionNames.owner(of: $0, Self.sessions) }, workingDirectory: directory,
            sessions: Self.sessions
        ).consulting(document.flatMap { Document($0).actor })
    }

    func check() {
        #expect("\(attribution)" == result, "\(testDescription)")
    }

    var testDescription: String {
        func text(_ bytes: [UInt8]) -> String { "\"\(String(decoding: bytes.prefix(200), as: UTF8.self))\"" }
        var words = ["\(command.map(text))"]
        words += environment.map { "\($0.key.rawValue)=\(text($0.value))" }.sorted()
        if let signal { words.append("signal \(text(signal))") }
        if let document { words.append("document \(text(document))") }
        if let directory { words.append("in \(text(directory))") }
        return words.joined(separator: " ") + " → " + result
    }
}
