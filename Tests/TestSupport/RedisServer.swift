import CLinux
import Glibc
import Synchronization

/// A Redis server for one test, with its own directory and free ports.
///
/// Listens on a Unix socket and, by options, on loopback ports. `deinit` ends it and removes its directory; if the test
/// process dies, a shell that reads its pipe does. All methods block for a limited time.
package final class RedisServer: Sendable {
    package struct Options: Sendable {
        /// `requirepass`.
        package var password: String?
        /// Arguments of `user` lines, as in an ACL file.
        package var users: [String] = []
        /// Listen on 127.0.0.1 and ::1.
        package var listensOnLoopback = true
        /// `subjectAltName` of a certificate; enables TLS on a second loopback port.
        package var certificateNames: String?
        package var replicaOf: RedisServer?
        /// Makes it a sentinel of a service.
        package var watches: (service: String, primary: RedisServer)?
        /// Additional lines of configuration.
        package var configuration: [String] = []

        package init() {}
    }

    package struct Failed: Error, CustomStringConvertible {
        package let description: String
    }

    package let directory: String
    package let options: Options
    package let port: UInt16
    package let tlsPort: UInt16
    package var socketPath: String { "\(directory)/redis.sock" }
    /// The certificate authority, PEM.
    package var caFile: String { "\(directory)/ca.crt" }

    private let guardian: Guardian
    private let pid: Mutex<pid_t>

    package static let isInstalled =
        (try? shell("command -v redis-server && command -v redis-cli && command -v openssl")) != nil

    /// Starts a server and waits until it answers.
    package convenience init(_ configure: (inout Options) -> Void = { _ in }) throws {
        var options = Options()
        configure(&options)
        try self.init(options)
    }

    private init(_ options: Options) throws {
        var template = Array("/tmp/pulsefs-redis-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw Failed(description: "no directory: errno \(errno)") }
        let directory = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
        self.directory = directory
        self.options = options
        guardian = try Guardian(directory)
        if let names = options.certificateNames { try Self.makeCertificates(for: names, in: directory) }
        let isListening = options.listensOnLoopback || options.watches != nil
        var attempts = 5
        while true {
            // Another process may take the port before the server binds it.
            let ports = (
                isListening ? try Self.freePort() : 0, options.certificateNames == nil ? 0 : try Self.freePort()
            )
            try Self.write(options, ports, in: directory)
            let pid = try guardian.start()
            do {
                try Self.waitUntilReady(directory, pid)
                self.pid = Mutex(pid)
                (port, tlsPort) = ports
                return
            } catch {
                attempts -= 1
                if attempts == 0 { throw error }
            }
        }
    }

    // MARK: Lifecycle

    /// Kills it without saving data.
    package func kill() {
        signal(SIGKILL)
        guardian.waitForEnd()
    }

    /// Starts it again after `kill`, on the same ports.
    package func restart() throws {
        let started = try guardian.start()
        pid.withLock { $0 = started }
        try Self.waitUntilReady(directory, started)
    }

    /// Stops the process: the kernel accepts connections, and nothing is answered.
    package func pause() { signal(SIGSTOP) }

    package func resume() { signal(SIGCONT) }

    private func signal(_ number: CInt) {
        _ = Glibc.kill(pid.withLock { $0 }, number)
    }

    // MARK: Commands

    /// The output of redis-cli.
    @discardableResult
    package func cli(_ words: String...) throws -> String {
        try Self.cli(directory, password: options.password, words)
    }

    /// Waits until a condition holds.
    package func wait(
        for what: String, seconds: Int = 10, _ isSo: (RedisServer) throws -> Bool
    ) throws {
        try Self.wait(for: what, seconds: seconds) { try isSo(self) }
    }

    private static func cli(_ directory: String, password: String?, _ words: [String]) throws -> String {
        let login = password.map { "REDISCLI_AUTH=\(quoted($0)) " } ?? ""
        let command = words.map(quoted).joined(separator: " ")
        return try shell("\(login)timeout -s KILL 10 redis-cli -s \(directory)/redis.sock \(command) 2>/dev/null")
    }

    private static func waitUntilReady(_ directory: String, _ pid: pid_t) throws {
        try wait(for: "server in \(directory)", seconds: 20) {
            // Exits if a port is taken, and is a zombie until the shell reaps it.
            let state = (try? shell("sed 's/.*) //' /proc/\(pid)/stat 2>/dev/null")) ?? "Z"
            guard !state.hasPrefix("Z") else {
                throw Failed(description: "no server: \((try? shell("tail -n 5 \(directory)/log")) ?? "")")
            }
            let answer = (try? cli(directory, password: nil, ["PING"])) ?? ""
            return answer.hasPrefix("PONG") || answer.hasPrefix("NOAUTH")
        }
    }

    private static func wait(for what: String, seconds: Int, _ isSo: () throws -> Bool) throws {
        let limit = ContinuousClock.now + .seconds(seconds)
        while try !isSo() {
            guard ContinuousClock.now < limit else { throw Failed(description: "not in time: \(what)") }
            usleep(10_000)
        }
    }

    // MARK: Setup

    private static func write(_ options: Options, _ ports: (UInt16, UInt16), in directory: String) throws {
        var lines = [
            "port \(ports.0)", "bind 127.0.0.1 ::1", "unixsocket \(directory)/redis.sock", "dir \(directory)",
            "daemonize no",
        ]
        if let password = options.password { lines.append("requirepass \"\(password)\"") }
        lines += options.users.map { "user \($0)" }
        if ports.1 != 0 {
            lines += [
                "tls-port \(ports.1)", "tls-cert-file \(directory)/server.crt",
                "tls-key-file \(directory)/server.key", "tls-ca-cert-file \(directory)/ca.crt", "tls-auth-clients no",
            ]
        }
        if let (service, primary) = options.watches {
            lines += [
                "sentinel monitor \(service) 127.0.0.1 \(primary.port) 1",
                "sentinel down-after-milliseconds \(service) 500", "sentinel failover-timeout \(service) 5000",
            ]
        } else {
            lines += ["save \"\"", "appendonly no"]
            if let primary = options.replicaOf {
                lines += ["replicaof 127.0.0.1 \(primary.port)", "repl-diskless-sync-delay 0"]
            }
        }
        let isSentinel = options.watches != nil
        try write(lines + options.configuration, to: "\(directory)/redis.conf")
        try write(
            ["exec redis-server \(directory)/redis.conf\(isSentinel ? " --sentinel" : "")"], to: "\(directory)/run")
    }

    private static func write(_ lines: [String], to path: String) throws {
        guard let file = fopen(path, "w") else { throw Failed(description: "\(path): errno \(errno)") }
        defer { fclose(file) }
        fputs(lines.map { $0 + "\n" }.joined(), file)
    }

    private static func makeCertificates(for names: String, in directory: String) throws {
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
        try shell(
            """
            cd \(directory) && exec 2>openssl.log && printf 'subjectAltName=%s' \(quoted(names)) > names &&
            openssl req -x509 \(key) -days 2 -subj /CN=authority -keyout ca.key -out ca.crt &&
            openssl req \(key) -subj /CN=server -keyout server.key -out server.csr &&
            openssl x509 -req -days 2 -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -extfile names \
                -out server.crt
            """)
    }

    /// A port that is free on both loopback addresses.
    private static func freePort() throws -> UInt16 {
        let probe = socket(AF_INET6, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard probe >= 0 else { throw Failed(description: "no socket: errno \(errno)") }
        defer { close(probe) }
        // Binding the unspecified address checks IPv4 too.
        var address = sockaddr_in6()
        address.sin6_family = sa_family_t(AF_INET6)
        var size = socklen_t(MemoryLayout<sockaddr_in6>.size)
        let failure = withUnsafeMutableBytes(of: &address) { bytes in
            // because the bytes are those of a sockaddr_in6.
            let generic = bytes.baseAddress!.assumingMemoryBound(to: sockaddr.self)
            return bind(probe, generic, size) != 0 || getsockname(probe, generic, &size) != 0
        }
        guard !failure else { throw Failed(description: "no free port: errno \(errno)") }
        return UInt16(bigEndian: address.sin6_port)
    }
}

/// Runs a shell script and returns its output; throws if it fails.
@discardableResult
private func shell(_ script: String) throws -> String {
    guard let pipe = popen(script, "re") else { throw RedisServer.Failed(description: "no shell: errno \(errno)") }
    var (printed, block) = ([UInt8](), [UInt8](repeating: 0, count: 4096))
    while true {
        let count = fread(&block, 1, block.count, pipe)
        if count == 0 { break }
        printed += block[..<count]
    }
    let status = pclose(pipe)
    guard status == 0 else { throw RedisServer.Failed(description: "status \(status) of: \(script)") }
    return String(decoding: printed, as: UTF8.self)
}

private func quoted(_ word: String) -> String {
    "'" + word.split(separator: "'", omittingEmptySubsequences: false).joined(separator: #"'\''"#) + "'"
}

// MARK: -

/// The shell that starts a server; when the test process ends, it kills the server and removes the directory.
///
/// PR_SET_PDEATHSIG does not help: it reports the end of the parent thread, and test threads are short-lived.
private final class Guardian: Sendable {
    private let pid: pid_t
    private let orders: CInt
    private let answers: CInt
    private let turn = Mutex(())

    init(_ directory: String) throws {
        // The kernel sends SIGHUP to an orphaned process group with a stopped member. A program that still writes to the
        // directory can delay its removal.
        let script = """
            trap '' HUP
            server=
            while read -r order; do
                case $order in
                start) sh "$0/run" >"$0/log" 2>&1 </dev/null 3>&- & server=$!; echo $server >&3;;
                wait) wait $server; server=; echo 0 >&3;;
                esac
            done
            [ -z "$server" ] || kill -KILL $server
            wait
            rm -rf "$0" || { sleep 1; rm -rf "$0"; }
            """
        var (down, up): ([CInt], [CInt]) = ([-1, -1], [-1, -1])
        guard pipe2(&down, O_CLOEXEC) == 0, pipe2(&up, O_CLOEXEC) == 0 else {
            throw RedisServer.Failed(description: "no pipe: errno \(errno)")
        }
        defer { for end in [down[0], up[1]] { close(end) } }

        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, down[0], 0)
        posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, up[1], 3)
        posix_spawn_file_actions_addclosefrom_np(&actions, 4)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        // Test threads block signals. An interrupt from the terminal is for the tests alone.
        var signals = sigset_t()
        sigemptyset(&signals)
        posix_spawnattr_setsigmask(&attributes, &signals)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK))

        let words: [String] = ["sh", "-c", script, directory]
        let arguments = words.map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        var pid = pid_t()
        let failure = posix_spawn(&pid, "/bin/sh", &actions, &attributes, arguments, clinux_environment())
        guard failure == 0 else { throw RedisServer.Failed(description: "no shell: error \(failure)") }
        (self.pid, orders, answers) = (pid, down[1], up[0])
    }

    deinit {
        close(orders)
        waitpid(pid, nil, 0)
        close(answers)
    }

    func start() throws -> pid_t {
        guard let pid = pid_t(ask("start")), pid > 0 else {
            throw RedisServer.Failed(description: "no answer from the shell")
        }
        return pid
    }

    /// Waits for the end of the killed server.
    func waitForEnd() {
        _ = ask("wait")
    }

    private func ask(_ order: String) -> String {
        turn.withLock { _ in
            let line = order + "\n"
            guard write(orders, line, line.utf8.count) == line.utf8.count else { return "" }
            var (answer, byte): ([UInt8], UInt8) = ([], 0)
            while read(answers, &byte, 1) == 1, byte != UInt8(ascii: "\n") { answer.append(byte) }
            return String(decoding: answer, as: UTF8.self)
        }
    }
}
