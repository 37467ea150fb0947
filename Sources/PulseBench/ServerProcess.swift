import Glibc

/// One of the processes behind a mount, and what it costs.
struct ServerProcess {
    let pid: pid_t

    /// Whether the process is still there for this town: by now its pid may be another's.
    func serves(_ town: String) -> Bool {
        (try? procFile("cmdline"))?.split(separator: "\0").contains { $0 == town } ?? false
    }

    /// Resident and proportional memory in KiB, from `/proc/<pid>/smaps_rollup`.
    ///
    /// The proportional figure divides a page by the number of processes that share it.
    func memory() throws -> (rss: Int, pss: Int) {
        let text = try procFile("smaps_rollup")
        func field(_ name: String) -> Int {
            let line = text.split(separator: "\n").first { $0.hasPrefix("\(name):") }
            return line?.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
        }
        return (field("Rss"), field("Pss"))
    }

    /// The CPU time of all its threads so far, in the kernel's clock ticks (mostly 10 ms): utime and stime of proc(5).
    func cpuTime() throws -> Duration {
        // The second field, the command, may hold blanks and brackets: count from its last bracket.
        let fields = try procFile("stat").split(separator: ")").last?.split(separator: " ") ?? []
        guard fields.count > 12, let user = Int(fields[11]), let system = Int(fields[12]) else {
            throw BenchFailure("cannot read the CPU time of process \(pid)")
        }
        return .seconds(1) * (user + system) / sysconf(Int32(_SC_CLK_TCK))
    }

    private func procFile(_ name: String) throws -> String {
        do {
            return String(decoding: try GoFile(path: "/proc/\(pid)/\(name)").read(), as: UTF8.self)
        } catch {
            throw BenchFailure("cannot read /proc/\(pid)/\(name)", error)
        }
    }
}
