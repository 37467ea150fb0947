import ArgumentParser
import Glibc
import Linux
import Liveness
import LivenessRedis
import SystemPackage

/// The options of a mount for its mirror in Redis.
package struct MirrorOptions: ParsableArguments {
    package init() {}

    @Option(
        help: ArgumentHelp(
            "Mirror liveness to a Redis server: redis://host:6379/0, rediss:// with TLS, unix:///path, redis+sentinel://host,host/service. Put a URL with a password into \(RedisSecret.variable) or a file instead.",
            valueName: "url"))
    package var redis: String?

    @Option(
        help: ArgumentHelp(
            "A file with the Redis URL, which may contain a password; only its owner may read it. Read again at each connection.",
            valueName: "file"))
    package var redisFile: String?

    @Option(
        help: ArgumentHelp(
            "Certificate authorities for a rediss:// server, PEM. By default those of the system.",
            valueName: "file"))
    package var redisCa: String?

    @Option(help: ArgumentHelp("Prefix of the keys of runtimes.", valueName: "text"))
    package var redisPrefix = MirrorConfiguration.defaultPrefix

    @Option(
        help: ArgumentHelp(
            "Share records with all towns of this name on the same Redis. By default a town only finds its own records again after a restart.",
            valueName: "name"))
    package var townName: String?

    @Flag(help: "Share signal files too: each shows the newest document of all towns of this name.")
    package var share = false

    @Option(
        help: ArgumentHelp(
            "A JSON object that maps runtime ids to UUIDs, for a Redis that knows runtimes by UUID. Read again when it changes.",
            valueName: "file"))
    package var runtimeIds: String?

    @Flag(help: .hidden)
    package var redisInherited = false

    package func validate() throws {
        if redis != nil, redisFile != nil { throw ValidationError("--redis and --redis-file exclude each other.") }
        if let redis, try Self.parse(redis).holdsSecret {
            // Without the URL, which may contain a password.
            throw ValidationError(
                "--redis must not contain a user or password, since all users can see arguments: put the URL into \(RedisSecret.variable) or a file (--redis-file)."
            )
        }
        if let townName {
            let isAllowed = townName.utf8.allSatisfy(RuntimeID.isAllowedInName)
            guard isAllowed, (1...100).contains(townName.utf8.count) else {
                throw ValidationError("--town-name takes up to 100 ASCII letters, digits and _ . -")
            }
        }
        if share, townName == nil { throw ValidationError("--share needs --town-name.") }
        guard redisPrefix.utf8.count <= 200, redisPrefix.utf8.allSatisfy({ (0x21..<0x7f).contains($0) }) else {
            throw ValidationError("--redis-prefix must be printable ASCII without spaces, at most 200 characters.")
        }
    }

    private static func parse(_ text: String) throws -> RedisURL {
        do throws(RedisURL.Invalid) {
            return try RedisURL(text)
        } catch {
            throw ValidationError("The Redis URL is invalid: \(error)")
        }
    }

    /// The same options as arguments for a process with another current directory.
    var arguments: [String] {
        var arguments: [String] = []
        if let redis { arguments += ["--redis", redis] }
        if let redisFile { arguments += ["--redis-file", FilePaths.absolute(redisFile)] }
        if let redisCa { arguments += ["--redis-ca", FilePaths.absolute(redisCa)] }
        if redisPrefix != MirrorConfiguration.defaultPrefix { arguments += ["--redis-prefix", redisPrefix] }
        if let townName { arguments += ["--town-name", townName] }
        if share { arguments.append("--share") }
        if let runtimeIds { arguments += ["--runtime-ids", FilePaths.absolute(runtimeIds)] }
        if redisInherited { arguments.append("--redis-inherited") }
        return arguments
    }

    // MARK: In use

    /// Whether there is a mirror.
    var isEnabled: Bool { redis != nil || redisFile != nil || redisInherited }

    /// Removes the URL from the environment and checks the options.
    ///
    /// - Returns: the URL from the environment, for keeper and worker to inherit; nil if it comes from elsewhere.
    package mutating func removeSecret(for town: String) throws -> RedisSecret? {
        // Also if another option wins: no child process shall see it.
        let inEnvironment = try RedisSecret.removeFromEnvironment()
        let found = redis == nil && redisFile == nil ? inEnvironment : nil
        redisInherited = found != nil
        guard isEnabled else {
            let unused = [
                ("--town-name", townName != nil), ("--share", share), ("--runtime-ids", runtimeIds != nil),
                ("--redis-ca", redisCa != nil),
            ]
            guard let (option, _) = unused.first(where: \.1) else { return nil }
            throw Failure("\(option) needs a Redis: --redis, --redis-file or \(RedisSecret.variable).", .usage)
        }
        try RedisSecret.keepOutOfCores()
        do {
            _ = try configuration(of: "/", secret: found)?.options()
        } catch let error as ValidationError {
            throw Failure("\(error)", .usage)
        }
        for (option, file) in [("--redis-file", redisFile), ("--redis-ca", redisCa)] {
            // In the town, the worker would wait for itself. A file that cannot be resolved is reported when it is read.
            guard let file, (try? FilePaths.resolved(file))?.hasPrefix(town + "/") == true else { continue }
            throw Failure("\(file) is in the town; keep the file of \(option) elsewhere.", .usage)
        }
        if let redisCa, access(redisCa, R_OK) != 0 { throw Failure("cannot read \(redisCa): \(Errno.current).") }
        if let runtimeIds {
            var file = RuntimeIDFile(path: runtimeIds)
            _ = file.refresh()
            if let problem = file.problem { throw Failure("\(runtimeIds) is not a map of runtime ids: \(problem).") }
        }
        return found
    }

    /// The secret that this process inherited under a descriptor number, if any.
    package func inheritedSecret(_ number: CInt) -> RedisSecret? {
        redisInherited ? RedisSecret(takingOwnershipOf: OwnedDescriptor(takingOwnershipOf: number)) : nil
    }

    /// The mirror's configuration; nil without a mirror.
    func configuration(of town: String, secret: RedisSecret?) throws -> MirrorConfiguration? {
        guard isEnabled else { return nil }
        let origin = Origin(host: Host.name, path: town, machine: Host.machineID)
        let read: @Sendable () throws -> RedisURL
        if let redis {
            let url = try Self.parse(redis)
            read = { url }
        } else if let redisFile {
            read = { try Self.parse(RedisSecret.read(file: redisFile)) }
        } else if let secret {
            read = { try Self.parse(secret.text()) }
        } else {
            throw Failure("the Redis URL was not inherited.")
        }
        var configuration = MirrorConfiguration(townName: townName ?? origin.name, origin: origin) { [redisCa] in
            RedisOptions(url: try read(), caFile: redisCa)
        }
        configuration.prefix = redisPrefix
        configuration.sharesSignals = share
        configuration.runtimeIDs = runtimeIds
        return configuration
    }
}
