import Glibc
import TestSupport
import Testing

extension ParallelEndToEnd {
    /// Places where a password must not appear.
    @Suite(.needsRedis, .needsRoot) struct MirrorSecretTests {
        enum Method: Sendable, CaseIterable {
            case environment, environmentInTheForeground, file
        }

        @Test(arguments: Method.allCases) func passwordIsNowhereToBeSeen(_ way: Method) throws {
            let password = "hunter2-\(getpid())-\(way)"
            let redis = try RedisServer { $0.password = password }
            let url = "redis://default:\(password)@127.0.0.1:\(redis.port)"
            try withTown { town in
                let file = "\(town.scratch.path)/redis"
                try Client.write(url, to: file, mode: 0o600)
                let running = try start(town, way == .file ? ["--redis-file", file] : nil, url, way)
                let isUp = try eventually { try town.isMounted && town.mirror.isUp }
                #expect(isUp)
                try town.touch("max")
                #expect(try eventually { try redis.isAlive("max") })
                let pids = town.processes
                #expect(pids.count >= 2)

                // Log everything there is to log.
                try redis.cli("CONFIG", "SET", "requirepass", "other")
                try Command("redis-cli", "-s", redis.socketPath, "-a", "other", "CLIENT", "KILL", "TYPE", "normal")
                    .output()
                #expect(try eventually { try town.mirror.heartbeats.state == .refused })

                var seen = [town.loggedText, running?.printed ?? "", running?.printedErrors ?? ""]
                seen.append(try Client.read("\(town.path)/.pulse/status.json"))
                seen.append(try town.pulsefs("status", town.path).output)
                #expect(seen.joined().contains("WRONGPASS"))
                for pid in pids {
                    for name in ["cmdline", "environ", "status", "mounts"] {
                        seen.append(try Client.read("/proc/\(pid)/\(name)"))
                    }
                    for name in try Client.names(in: "/proc/\(pid)/task") {
                        seen.append(try Client.read("/proc/\(pid)/task/\(name)/cmdline"))
                    }
                    let limits = try Client.read("/proc/\(pid)/limits").split(separator: "\n")
                    let words = try #require(limits.first { $0.contains("core") }).split(separator: " ")
                    #expect(words.filter { $0 == "1" }.count == 2, "\(words)")
                }
                for text in seen { #expect(!text.contains(password)) }

                let worker = try town.status().workerPid
                kill(worker, SIGABRT)
                // Another worker takes over; with --scope=signals the mounts end.
                #expect(eventually { !town.isMounted || (try? town.status()).map { $0.workerPid != worker } == true })
                try expectNoCores(in: [town.path, "/", town.scratch.path], of: pids)
                if town.isMounted { try town.unmount() }
                #expect(eventually { town.processes.isEmpty })
                _ = try running?.wait()
            }
        }

        /// Mounts with core dumps allowed by the limits.
        private func start(
            _ town: MountedTown, _ options: [String]?, _ url: String, _ way: Method
        ) throws -> RunningCommand? {
            let words = [BuiltProgram.path, "mount", "--log", "\(town.scratch.path)/home/log"] + (options ?? [])
            var command = Command(
                ["sh", "-c", #"ulimit -c unlimited; exec "$@""#, "sh"] + words,
                in: town.scratch.path,
                environment: options == nil ? ["PULSEFS_REDIS_URL": url, "HOME": "\(town.scratch.path)/home"] : [:])
            if way == .environmentInTheForeground {
                command.words += ["--foreground", town.path]
                return try command.start()
            }
            command.words.append(town.path)
            try command.output()
            return nil
        }

        private func expectNoCores(in directories: [String], of pids: [pid_t]) throws {
            for directory in directories {
                let cores = try Client.names(in: directory).filter { name in
                    name == "core" || pids.contains { name.hasPrefix("core") && name.hasSuffix("\($0)") }
                }
                #expect(cores == [], "\(directory)")
            }
        }
    }
}
