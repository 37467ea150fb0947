import Glibc
import TestSupport
import Testing

extension ParallelEndToEnd {
    /// Mirror options: errors, and the map of runtime ids.
    @Suite(.needsRedis) struct MirrorOptionsTests {
        /// A mistake: options, in which FILE stands for a file, and a string that the message must contain.
        struct Mistake: Sendable, CustomTestStringConvertible {
            let options: [String]
            let status: Int32
            let names: String
            /// The content of the file.
            var content = ""
            var mode: mode_t = 0o600
            var environment: [String: String] = [:]

            init(_ options: String..., status: Int32 = 64, naming names: String) {
                self.options = options
                self.status = status
                self.names = names
            }

            func with(_ content: String, mode: mode_t = 0o600) -> Mistake {
                var mistake = self
                mistake.content = content
                mistake.mode = mode
                return mistake
            }

            func with(environment url: String) -> Mistake {
                var mistake = self
                mistake.environment["PULSEFS_REDIS_URL"] = url
                return mistake
            }

            var testDescription: String { options.joined(separator: " ") + content + environment.values.joined() }
        }

        private static let secret = "hunter2-secret"

        static let mistakes = [
            Mistake("--redis", "http://h", naming: "redis://"),
            Mistake("--redis", "redis://:\(secret)@h/x", naming: "database"),
            Mistake("--redis", "redis://u:\(secret)@h", naming: "PULSEFS_REDIS_URL"),
            Mistake("--redis", "redis+sentinel://h/s?sentinel_password=\(secret)", naming: "PULSEFS_REDIS_URL"),
            Mistake("-o", "redis=redis://u:\(secret)@h", naming: "PULSEFS_REDIS_URL"),
            Mistake(naming: "Redis URL").with(environment: "redis//u:\(secret)@h"),
            Mistake("--redis-file", "FILE", naming: "Redis URL").with("redis//u:\(secret)@h"),
            Mistake("--redis-file", "FILE", status: 1, naming: "chmod 600").with("redis://:\(secret)@h", mode: 0o640),
            Mistake("--redis-file", "FILE", status: 1, naming: "chmod 600").with("redis://:\(secret)@h", mode: 0o604),
            Mistake("--redis-file", "FILE/none", status: 1, naming: "/none"),
            Mistake("--redis", "redis://h", "--redis-file", "FILE", naming: "exclude"),
            Mistake("--redis", "redis://h", "--share", naming: "--town-name"),
            Mistake("--redis", "redis://h", "--town-name", "a b", naming: "--town-name"),
            Mistake("--redis", "redis://h", "--redis-prefix", "a b", naming: "--redis-prefix"),
            Mistake("--redis", "rediss://h", "--redis-ca", "FILE/none", status: 1, naming: "/none"),
            Mistake("--town-name", "gt", naming: "--town-name"),
            Mistake("--town-name", "gt", "--share", naming: "--redis"),
            Mistake("--runtime-ids", "FILE", naming: "--runtime-ids"),
            Mistake("--redis", "redis://h", "--runtime-ids", "FILE", status: 1, naming: "not a map").with("{"),
            Mistake("--redis", "redis://h", "--runtime-ids", "FILE", status: 1, naming: "no UUID").with(#"{"a":"x"}"#),
            Mistake("--redis", "redis://h", "--runtime-ids", "FILE", status: 1, naming: "a and b have the same UUID")
                .with(#"{"a":"\#(uuid)","b":"\#(uuid.uppercased())"}"#),
        ]

        @Test(arguments: mistakes) func mistakeGetsOneLineAndItsExitStatus(_ mistake: Mistake) throws {
            try withTown { town in
                let file = "\(town.scratch.path)/file"
                try Client.write(mistake.content, to: file)
                chmod(file, mistake.mode)
                let options = mistake.options.map { $0.hasPrefix("FILE") ? file + $0.dropFirst(4) : $0 }
                let outcome = try town.pulsefsCommand(
                    ["mount"] + options + [town.path], environment: mistake.environment
                ).run()
                #expect(outcome.status == mistake.status, "\(outcome)")
                #expect(outcome.output == "")
                #expect(outcome.errors.split(separator: "\n").count == 1, "\(outcome.errors)")
                #expect(outcome.errors.contains(mistake.names), "\(outcome.errors)")
                #expect(!outcome.errors.contains(Self.secret))
                #expect(!town.isMounted)
                #expect(town.processes == [])
            }
        }

        // MARK: Runtime ids

        private static let uuid = "01984d0e-0000-7000-8000-00000000000a"
        private static let other = "01984d0e-0000-7000-8000-00000000000b"

        @Test func runtimesGoByTheUUIDsOfTheFileAsItIs() throws {
            let redis = try RedisServer.onSocket()
            try TemporaryDirectory.with { scratch in
                let file = "\(scratch.path)/ids.json"
                try Client.write(#"{"max":"\#(Self.uuid.uppercased())"}"#, to: file)
                try withMountedTown("--redis", redis.url, "--runtime-ids", file) { town in
                    try town.touch("max")
                    try town.touch("joe")
                    #expect(try eventually { try redis.alive([Self.uuid, "joe", "max"]) == [Self.uuid, "joe"] })
                    #expect(try town.mirror.runtimeIds?.entries == 1)

                    try Client.replace(file, with: "{")
                    #expect(try eventually { try town.mirror.runtimeIds?.problem != nil })
                    #expect(try town.pulsefs("status", town.path).output.contains("not a JSON object"))
                    #expect(try town.mirror.runtimeIds?.entries == 1)
                    try town.forget("max")
                    #expect(try eventually { try !redis.isAlive(Self.uuid) })
                    try town.touch("max")
                    #expect(try eventually { try redis.isAlive(Self.uuid) })

                    try Client.replace(file, with: #"{"joe":"\#(Self.uuid)","max":"\#(Self.other)"}"#)
                    let isNew = try eventually(within: Promise(.seconds(4))) {
                        try redis.alive([Self.uuid, Self.other]).count == 2 && town.mirror.runtimeIds?.problem == nil
                    }
                    #expect(isNew)
                    try town.forget("max")
                    #expect(try eventually { try redis.alive([Self.uuid, Self.other]) == [Self.uuid] })

                    try Client.replace(file, with: #"{"joe":"\#(Self.uuid)","max":"\#(Self.uuid)"}"#)
                    #expect(
                        try eventually { try town.mirror.runtimeIds?.problem?.contains("the same UUID") == true })
                    #expect(try redis.isAlive(Self.uuid))
                    try Client.unlink(file)
                    #expect(try eventually { try town.mirror.runtimeIds?.problem?.contains("cannot be read") == true })
                }
            }
        }
    }
}
