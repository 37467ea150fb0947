import TestSupport
import Testing

/// Mounts and unmounts another town in one mount namespace after the other.
///
/// Each has copies of all mounts, which stay mounted there: not for tests that run beside others.
struct NamespaceCrowd: ~Copyable {
    private let command: RunningCommand
    private let stop: String

    /// Only root can start one.
    init(beside town: MountedTown) throws {
        stop = "\(town.scratch.path)/end-of-crowd"
        let script = """
            other=$1 stop=$2 program=$3
            mkdir "$other"
            while [ ! -e "$stop" ]; do
                unshare --mount sh -euc '
                    mount --make-rprivate /
                    "$2" mount --log "$1.log" "$1"
                    mkdir -p "$1/.runtime"
                    echo "{}" > "$1/.runtime/keepalive.json"
                    grep -q worker_pid "$1/.pulse/status.json"
                    "$2" unmount "$1"' sh "$other" "$program"
                echo
            done
            """
        command = try Command(
            "sh", "-euc", script, "sh", "\(town.scratch.path)/crowd", stop, BuiltProgram.path,
            environment: ["PULSEFS_STATE_DIRECTORY": "\(town.scratch.path)/crowd-state"], limit: .seconds(180)
        ).start()
    }

    /// How many towns have been unmounted.
    var count: Int { command.printed.count }

    /// Returns when the last one is unmounted.
    func end() throws {
        try Client.write("", to: stop)
        let outcome = try command.wait()
        #expect(outcome.status == 0, "\(outcome)")
    }
}
