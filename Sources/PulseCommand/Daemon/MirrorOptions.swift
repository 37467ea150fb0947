import ArgumentParser
import Glibc
import Linux
import Liveness
import LivenessRedis
import SystemPackage

/// The options of a mount that are about its mirror in Redis.
struct MirrorOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Tell a Redis server who is alive: redis://host:6379/0, rediss:// with TLS, unix:///path, redis+sentinel://host,host/service. A URL with a password goes into \(RedisSecret.variable) or a file instead.",
            valueName: "url"))
    var redis: String?

    @Option(
        help: ArgumentHelp(
            "A file with the Redis URL, password and all, that only its owner may read. Read again at each connection.",
            valueName: "file"))
    var redisFile: String?

    @Option(
        help: ArgumentHelp(
            "Certificate authorities that a rediss:// server's certificate may come from, PEM. By default the system's.",
            valueName: "file"))
    var redisCa: String?

    @Option(help: ArgumentHelp("What keys of runtimes begin with.", valueName: "text"))
    var redisPrefix = MirrorConfiguration.defaultPrefix

    @Option(
        help: ArgumentHelp(
            "Share records with all towns of this name at the same Redis. By default the town is alone, and finds its own records after a restart.",
            valueName: "name"))
    var townName: String?

    @Flag(help: "Share the signal files, too: each shows the newest document of all towns of the name.")
    var share = false

    @Option(
        help: ArgumentHelp(
            "A JSON object of UUIDs by runtime id, for a Redis that knows runtimes by UUID. Read again when it changes.",
            valueName: "file"))
    var runtimeIds: String?

    @Flag(help: .hidden)
    var redisInherited = false

    func validate() throws {
        if redis != nil, redisFile != nil { throw ValidationError("--redis and --redis-file exclude each other.") }
        if let redis {
            // Said without the text, which may hold a password.
            guard try !Self.parse(redis).holdsSecret else {
                throw ValidationError(
                    "--redis must not hold a user or password, as everybody sees the arguments: put the URL into \(RedisSecret.variable) or a file, --redis-file."
                )
            }
        }
        if let townName { try Self.check(townName: townName) }
        if share, townName == nil { throw ValidationError("--share needs --town-name, the name to share under.") }
        guard redisPrefix.utf8.count <= 200, redisPrefix.utf8.allSatisfy({ (0x21..<0x7f).contains($0) }) else {
            throw ValidationError("--redis-prefix must be printable ASCII without spaces, at most 200 characters.")
        }
    }

    private static func parse(_ text: String) throws -> RedisURL {
        do throws(RedisURL.Invalid) {
            return try RedisURL(text)
        } catch {
            throw ValidationError("The Redis URL is not usable: \(error)")
        }
    }

    private static func check(townName: String) throws {
        let isFit =
            (1...100).contains(townName.utf8.count)
            && townName.utf8.allSatisfy { RuntimeID.isAllowed($0) && $0 != UInt8(ascii: "/") }
        guard isFit else {
            throw ValidationError("--town-name may have up to 100 ASCII letters, digits and _ . -")
        }
    }

    /// The arguments that say the same to another process, which has another current directory.
    var arguments: [String] {
        var arguments: [String] = []
        if let redis { arguments += ["--redis", redis] }
        if let redisFile { arguments += ["--redis-file", Self.absolute(redisFile)] }
        if let redisCa { arguments += ["--redis-ca", Self.absolute(redisCa)] }
        if redisPrefix != MirrorConfiguration.defaultPrefix { arguments += ["--redis-prefix", redisPrefix] }
        if let townName { arguments += ["--town-name", townName] }
        if share { arguments.append("--share") }
        if let runtimeIds { arguments += ["--runtime-ids", Self.absolute(runtimeIds)] }
        if redisInherited { arguments.append("--redis-inherited") }
        return arguments
    }

    private static func absolute(_ path: String) -> String {
        guard !path.hasPrefix("/"), let directory = getcwd(nil, 0) else { return path }
        defer { free(directory) }
        return String(cString: directory) + "/" + path
    }

    // MARK: In use

    /// Whether there is to be a mirror.
    var isEnabled: Bool { redis != nil || redisFile != nil || redisInherited }

    /// Takes the URL out of the environment, if that is where it is, and sees whether all that was given makes sense.
    ///
    /// - Returns: What keeper and worker are to inherit, if anything.
    mutating func takeSecret(for town: String) throws -> RedisSecret? {
        // Out of the environment in any case.
        let inEnvironment = try RedisSecret.takeFromEnvironment()
        let found = redis == nil && redisFile == nil ? inEnvironment : nil
        redisInherited = found != nil
        guard isEnabled else {
            let unused = [
                ("--town-name", townName != nil), ("--share", share), ("--runtime-ids", runtimeIds != nil),
                ("--redis-ca", redisCa != nil),
            ]
            guard let (option, _) = unused.first(where: \.1) else { return nil }
            throw Failure(
                "\(option) is about a Redis, and none is given: --redis, --redis-file or \(RedisSecret.variable).",
                .usage)
        }
        // Before a file is read, too.
        try RedisSecret.keepOutOfCores()
        do {
            _ = try configuration(of: "/", secret: found)?.options()
        } catch let error as ValidationError {
            throw Failure("\(error)", .usage)
        }
        for (option, file) in [("--redis-file", redisFile), ("--redis-ca", redisCa)] {
            // The worker would wait for itself.
            guard let file, let resolved = realpath(file, nil) else { continue }
            defer { free(resolved) }
            if String(cString: resolved).hasPrefix(town + "/") {
                throw Failure(
                    "\(file) lies in the town that is to be mounted; put what \(option) names elsewhere.", .usage)
            }
        }
        if let redisCa, access(redisCa, R_OK) != 0 { throw Failure("cannot read \(redisCa): \(Errno.current).") }
        if let runtimeIds {
            var file = RuntimeIDFile(path: runtimeIds)
            _ = file.refresh()
            if let problem = file.problem { throw Failure("\(runtimeIds) is no map of runtime ids: \(problem).") }
        }
        return found
    }

    /// What another process has handed on, under a descriptor's number; nil if nothing was.
    func inheritedSecret(_ number: CInt) -> RedisSecret? {
        redisInherited ? RedisSecret(takingOwnershipOf: OwnedDescriptor(takingOwnershipOf: number)) : nil
    }

    /// The mirror's configuration, or nil if there is to be none.
    ///
    /// - Parameter secret: What was inherited.
    func configuration(of town: String, secret: RedisSecret?) throws -> MirrorConfiguration? {
        guard isEnabled else { return nil }
        let host = Host.name
        let origin = Origin(host: host, path: town, machine: Host.machineID)
        let read: @Sendable () throws -> RedisURL
        if let redis {
            let url = try Self.parse(redis)
            read = { url }
        } else if let redisFile {
            read = { try Self.parse(RedisSecret.read(file: redisFile)) }
        } else if let secret {
            read = { try Self.parse(secret.text()) }
        } else {
            throw Failure("the Redis URL was not handed on.")
        }
        let redisCa = redisCa
        var configuration = MirrorConfiguration(townName: townName ?? origin.name, origin: origin) {
            RedisOptions(url: try read(), caFile: redisCa)
        }
        configuration.prefix = redisPrefix
        configuration.sharesSignals = share
        configuration.runtimeIDs = runtimeIds
        return configuration
    }
}
