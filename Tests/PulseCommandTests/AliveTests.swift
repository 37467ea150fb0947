import Glibc
import SystemPackage
import TestSupport
import Testing

extension ParallelEndToEnd {
    /// `.pulse/alive`, used with ordinary tools.
    @Suite(.inEachScope) struct AliveTests {
        @Test func toolsTouchQueryAndForget() throws {
            try withMountedTown { town in
                try town.shell(
                    """
                    cd .pulse/alive
                    test ! -e mayor
                    touch mayor; test -e mayor; test -f mayor
                    [ "$(ls)" = mayor ]
                    : > empty; test -e empty; rm empty
                    grep -q '"state" : "alive"' mayor
                    [ "$(grep -v seconds mayor)" = "$(grep -v seconds ../runtimes/mayor.json)" ]
                    rm mayor; test ! -e mayor; refused rm mayor; rm -f mayor
                    echo 30m > nux
                    grep -q '"ttl_left_seconds" : 179[0-9]\\|"ttl_left_seconds" : 1800' nux
                    refused sh -c "exec env printf forever > x"; test ! -e x
                    refused touch gastown/polecats/furiosa
                    mkdir -p gastown/polecats; touch gastown/polecats/furiosa
                    [ "$(find . | sort | tr '\\n' ' ')" = '. ./gastown ./gastown/polecats ./gastown/polecats/furiosa ./nux ' ]
                    refused rmdir gastown
                    touch gastown@/witness@/@; test -f gastown/witness
                    touch deacon; touch deacon@/boot@/@; test -d deacon; test -f deacon/@; test -f deacon/boot
                    rm deacon/boot; test -f deacon
                    stat -c '%U %a' nux gastown | sort -u
                    """)
                let number = try FileStatus("\(town.path)/.pulse/alive/nux").st_ino
                #expect(number >> 48 == 0x7070)
            }
        }

        @Test(.townScopeOnly(".pulse is a directory of the town root: ScopeTests"), .needs("git"))
        func walkingAndRemovingToolsDoNotFindIt() throws {
            try withMountedTown { town in
                try town.shell("touch .pulse/alive/mayor; echo x > file; git init -q .; git add -A; git commit -qm all")
                let seen = try town.shell("git ls-files; find .; ls -aR; cp -a . ../copy; find ../copy; rm -rf ../copy")
                #expect(!seen.contains("pulse"))
                try town.shell("rm -rf * ; test -e .pulse/alive/mayor; test -e .pulse/status.json")
                try town.shell("mkdir .runtime 2> /dev/null || true; rm -rf .[!.p]*; test -e .pulse/alive/mayor")
            }
        }

        /// Malicious names.
        @Test(.needs("python3")) func invalidIdsAreRejected() throws {
            try withMountedTown { town in
                let script = """
                    import errno, os, sys
                    os.chdir(sys.argv[1] + "/.pulse/alive")
                    def fails(number, call, *arguments):
                        try: call(*arguments)
                        except OSError as error: assert error.errno == number, (arguments, error)
                        else: assert False, arguments
                    def make(name): os.close(os.open(name, os.O_WRONLY | os.O_CREAT))
                    bad = [b"a\\nb", b"\\x7f", b"\\xff\\xfe", b"a\\x1b[31m", "\\u202ea".encode(), "\\x9b".encode(), b"@", b"%", b"100%", b"%41", b"%2f", b"a%2Fb"]
                    for name in bad:
                        fails(errno.EINVAL, make, name)
                        fails(errno.EINVAL, os.mkdir, name)
                        fails(errno.ENOENT, os.stat, name)
                        fails(errno.ENOENT, os.unlink, name)
                    make(b"n" * 255)
                    fails(errno.ENAMETOOLONG, make, b"n" * 256)
                    fails(errno.ENAMETOOLONG, os.stat, b"n" * 256)
                    # An id of 4 KiB, one directory after the other; the last one is too long.
                    top = os.open(".", os.O_RDONLY)
                    for depth in range(16):
                        if depth < 15: os.mkdir("d" * 255)
                        else: fails(errno.ENAMETOOLONG, os.mkdir, "d" * 256)
                        if depth < 15: os.chdir("d" * 255)
                    make("e" * 255)
                    os.mkdir("f" * 255)
                    fails(errno.ENAMETOOLONG, make, "f" * 255 + "/g")
                    os.fchdir(top)
                    assert os.stat("..").st_ino == os.stat(sys.argv[1] + "/.pulse").st_ino
                    fails(errno.EPERM, os.rename, "n" * 255, "m")
                    fails(errno.EPERM, os.link, "n" * 255, "m")
                    fails(errno.EPERM, os.symlink, "x", "m")
                    fails(errno.EPERM, os.mkfifo, "m")
                    fails(errno.EPERM, os.chmod, "n" * 255, 0o600)
                    # From another mount, with --scope=signals.
                    try: os.rename(sys.argv[1] + "/daemon", "m")
                    except OSError as error: assert error.errno in (errno.EPERM, errno.EXDEV), error
                    else: assert False
                    fails(errno.EPERM, os.mkdir, "../runtimes/x")
                    print("done")
                    """
                let printed = try Command("python3", "-c", script, town.path).output()
                #expect(printed.contains("done"))
                #expect(try town.status().town == town.path)
            }
        }

        /// Every id by command and by name: they agree.
        @Test(.needs("python3")) func idsOfAnyTextHaveFiles() throws {
            try withMountedTown { town in
                let script = """
                    import json, os, subprocess, sys, urllib.parse
                    pulsefs, town = sys.argv[1:]
                    top = town + "/.pulse/"
                    def command(*words):
                        return subprocess.run([pulsefs, *words], capture_output=True, timeout=30)
                    def walk(root):
                        for place, _, files in os.walk(root):
                            for name in files: yield os.path.relpath(os.path.join(place, name), root)
                    ids = {
                        "a b": "a b", " x ": " x ", "müller": "müller", "e\\u0301": "e\\u0301", "\\u00e9": "\\u00e9",
                        "100%": "100%25", "%2F": "%252F", "bob@": "bob%40", "a@b": "a@b", "..": "%2E%2E", "h/../.": "h/%2E%2E/%2E",
                        "/home/x/agent": "%2Fhome/x/agent", "p//q/": "p/%2Fq%2F", "/": "%2F", "n" * 255: "n" * 255,
                        "日" * 85: "日" * 85, "$(reboot)": "$(reboot)", "x.json": "x.json", "-rf": "-rf", "d/\\u0301": "d/\\u0301",
                        "/".join(["l" * 255] * 16): "/".join(["l" * 255] * 16), "/".join(["%" * 85] * 40): "/".join(["%25" * 85] * 40),
                    }
                    for id, path in ids.items():
                        assert urllib.parse.unquote(path) == id
                        assert command("alive", town, "--", id).returncode == 1, id
                        for words in [["touch", "--ttl", "1h"], ["touch"]]:
                            done = command(*words, town, "--", id)
                            assert done.returncode == 0, (id, done)
                        done = command("alive", "--json", town, "--", id)
                        assert done.returncode == 0, (id, done)
                        answer = json.loads(done.stdout)
                        assert answer["runtimes"][0]["id"] == id and answer["all_alive"], answer
                        assert command("alive", town, "--", id).stdout.decode().startswith("alive"), id
                    # Longer than any path that a system call takes.
                    short = {id: path for id, path in ids.items() if len(path) < 3000}
                    for id, path in short.items():
                        assert json.load(open(top + "alive/" + path))["id"] == id
                        assert json.load(open(top + "runtimes/" + path + ".json"))["id"] == id
                        assert os.path.exists(top + "alive/" + path)
                    found = set(path[:-5] for path in walk(top + "runtimes") if len(path) < 3000)
                    assert found == set(short.values()), found ^ set(short.values())
                    found = set(path for path in walk(top + "alive") if len(path) < 3000)
                    assert found == set(short.values()), found ^ set(short.values())
                    for id in ids: assert command("forget", town, "--", id).returncode == 0, id
                    assert os.listdir(top + "runtimes") == [] and os.listdir(top + "alive") == []
                    # mkdir -p and touch mean the same.
                    for id, path in short.items():
                        subprocess.run(["mkdir", "-p", "--", os.path.dirname(top + "alive/" + path)], check=True)
                        subprocess.run(["touch", "--", top + "alive/" + path], check=True)
                        done = command("alive", town, "--", id)
                        assert done.returncode == 0, (id, done)
                        subprocess.run(["rm", "--", top + "alive/" + path], check=True)
                        assert command("alive", town, "--", id).returncode == 1, id
                    events = [json.loads(line) for line in os.read(os.open(top + "events@1", os.O_RDONLY), 1 << 20).splitlines()]
                    assert set(event["runtime"] for event in events) == set(ids)
                    # A heartbeat names its session, whatever it is.
                    open(town + "/.runtime/heartbeats/Jane's ü.json", "w").write("{}")
                    assert command("alive", town, "Jane's ü").returncode == 0
                    assert "Jane's ü.json" in os.listdir(top + "runtimes")
                    # Ids on the command line are not encoded.
                    assert command("touch", town, "50%25").returncode == 0
                    assert os.path.exists(top + "alive/50%2525") and not os.path.exists(top + "alive/50%25")
                    for bad in ["", " ", "\\n", "\\u202ea", "%" * 86]:
                        done = command("touch", town, bad)
                        assert done.returncode == 64 and b"runtime id" in done.stderr, done
                    print("done")
                    """
                let printed = try Command(
                    ["python3", "-c", script, BuiltProgram.path, town.path], environment: ["PYTHONUTF8": "1"],
                    limit: .seconds(180)
                ).output()
                #expect(printed.contains("done"))
            }
        }

        @Test(.needsRoot, .needs("setpriv", "python3")) func otherUsersCanReadButNotChange() throws {
            try withMountedTown("--allow-other") { town in
                try town.shell("touch .pulse/alive/mayor")
                let script = """
                    cd \(town.path)/.pulse
                    ls alive runtimes > /dev/null; cat alive/mayor metrics > /dev/null; test -e alive/mayor
                    refused touch alive/mayor; refused touch alive/x; refused rm -f alive/mayor
                    refused mkdir alive/d; refused touch alive/d@/@
                    refused sh -c 'exec env printf 1h > alive/mayor'
                    timeout 0.2 cat events || [ $? = 124 ]
                    """
                try shell(script, as: .nobody)
                #expect(Client.exists("\(town.path)/.pulse/alive/mayor"))
            }
        }

        /// Other users see a document only if they can read its signal file; root and the file's owner always do.
        @Test(.needsRoot, .needs("setpriv")) func documentsAreShownToThoseWhoMayReadTheSignalFile() throws {
            try withMountedTown(
                "--allow-other", "--signal", "*/.beat.json",
                // In signals scope, files in a directory that is made later are plain until it is mounted.
                prepare: { try Command("sh", "-euc", "cd \($0); mkdir open private closed owned grouped").output() }
            ) { town in
                chmod(town.scratch.path, 0o755)
                try town.shell(
                    """
                    beat() {
                        printf '{"actor":"gastown/polecats/%s","last_command":"secret %s",%s}' $1 $1 "$2" > $1/.beat.json
                    }
                    for name in open private closed owned grouped; do
                        case $name in private) umask 077 ;; grouped) umask 027 ;; *) umask 022 ;; esac
                        beat $name '"state":"stuck"'
                    done
                    chmod 700 closed
                    chown 65534 owned/.beat.json; chmod 600 owned/.beat.json
                    beat owned '"x":1'
                    chgrp 65533 grouped/.beat.json
                    beat grouped '"x":1'
                    """)
                let script = """
                    cd \(town.path)/.pulse
                    for place in runtimes/gastown/polecats/NAME.json alive/gastown/polecats/NAME; do
                        for name in $*; do
                            file=$(echo $place | sed s/NAME/$name/)
                            grep -q '"state" : "alive"' $file || { echo "$file: no state"; continue; }
                            if grep -q -e secret -e stuck $file; then echo "$name shown"; else echo "$name hidden"; fi
                        done
                    done | sort -u
                    """
                let names = ["closed", "grouped", "open", "owned", "private"]
                func seen(_ words: String...) throws -> [String] {
                    let outcome = try Command(words + ["sh", "-uc", script, "sh"] + names).run()
                    #expect(outcome.status == 0, "\(outcome)")
                    return outcome.output.split(separator: "\n").map(String.init)
                }
                let root = try seen("env")
                #expect(root == names.map { "\($0) shown" })
                let nobody = try seen("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
                #expect(nobody == ["closed hidden", "grouped hidden", "open shown", "owned shown", "private hidden"])
                let member = try seen("setpriv", "--reuid=65532", "--regid=65534", "--groups=65533")
                #expect(member == ["closed hidden", "grouped shown", "open shown", "owned hidden", "private hidden"])
                // A user who could not read the file when it was written sees no document of it, whatever its mode is now.
                try town.shell("chmod 644 private/.beat.json; chmod 600 open/.beat.json")
                let later = try seen("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
                #expect(later == ["closed hidden", "grouped hidden", "open hidden", "owned shown", "private hidden"])
            }
        }

        @Test func readOnlyTownIsNotTouched() throws {
            try withMountedTown("-o", "ro") { town in
                #expect(throws: Errno.readOnlyFileSystem) { try Client.write("", to: "\(town.path)/.pulse/alive/x") }
                let names = try Client.names(in: "\(town.path)/.pulse/alive")
                #expect(names == [])
            }
        }

        // MARK: Metrics

        /// Checked by promtool.
        @Test(.needs("promtool")) func metricsAreValidForPrometheus() throws {
            try withMountedTown { town in
                try Client.write(KeepaliveDocument.text("gt"), to: town.keepalive)
                try town.shell("touch .pulse/alive/mayor; touch .pulse/alive/a@/b@/@")
                try town.shell(
                    "touch '.pulse/alive/a \"b\" \\ é'; rm '.pulse/alive/a \"b\" \\ é'; touch '.pulse/alive/\"é\\'")
                let findings = try town.shell("promtool check metrics < .pulse/metrics 2>&1")
                #expect(findings == "")
                let text = try Client.read("\(town.path)/.pulse/metrics")
                #expect(text.contains("pulsefs_runtimes{state=\"alive\"} 3\n"))
            }
        }
    }
}
