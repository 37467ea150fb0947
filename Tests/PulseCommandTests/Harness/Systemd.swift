import Glibc
import TestSupport
import Testing

/// A systemd in namespaces of its own, with the units of this project and nothing of the machine's.
///
/// Its mounts and processes end with it.
final class Systemd {
    private let process: RunningCommand
    private let pid: pid_t

    /// Starts systemd with `pulsefs@.service`, whose program is the one under test.
    ///
    /// - Parameter scratch: An empty directory for the unit files.
    init(in scratch: String, limit: Duration = .seconds(120)) throws {
        let units = """
            mkdir -p "$1/pulsefs@.service.d"
            sed "s|/usr/local/bin/pulsefs|$2|" "$3/mount-scripts/pulsefs@.service" > "$1/pulsefs@.service"
            printf '[Service]\\nStandardError=append:%s/log\\nEnvironment=PULSEFS_STATE_DIRECTORY=%s "PULSEFS_OPTIONS=%s"\\n' \\
                "$1" "$1" "$4" > "$1/pulsefs@.service.d/log.conf"
            for target in sysinit basic shutdown test; do
                printf '[Unit]\\nDefaultDependencies=no\\n' > "$1/$target.target"
            done
            """
        let options = TownScope.current.options.joined(separator: " ")
        try Command("sh", "-euc", units, "sh", scratch, BuiltProgram.path, BuiltProgram.sources, options).output()
        let script = """
            mount --make-rprivate /
            mount -t tmpfs none /run
            exec /lib/systemd/systemd --system --unit=test.target
            """
        let process = try Command(
            "unshare", "--fork", "--kill-child", "--pid", "--mount", "--mount-proc", "--ipc", "--uts", "--cgroup",
            "sh", "-euc", script,
            environment: ["container": "lxc", "SYSTEMD_UNIT_PATH": scratch, "SYSTEMD_LOG_TARGET": "console"],
            limit: limit
        ).start()
        self.process = process
        var found: pid_t?
        #expect(
            eventually {
                let children = try? Client.read("/proc/\(process.pid)/task/\(process.pid)/children")
                found = children?.split(separator: " ").first.flatMap { pid_t($0) }
                return found != nil
            })
        pid = try #require(found)
        #expect(eventually { (try? systemctl("is-active", "test.target").run().status) == 0 }, "\(process.printed)")
    }

    /// A command that sees its mounts and processes.
    func command(_ words: [String], limit: Duration = .seconds(30)) -> Command {
        Command(["nsenter", "--all", "--target=\(pid)"] + words, limit: limit)
    }

    func systemctl(_ words: String...) -> Command { command(["systemctl"] + words) }

    /// A property of a unit.
    func property(_ name: String, of unit: String) throws -> String {
        let output = try systemctl("show", "--property=\(name)", "--value", unit).output()
        return String(output.prefix { $0 != "\n" })
    }

    /// A path as its processes see it.
    func path(_ path: String) -> String { "/proc/\(pid)/root\(path)" }
}
