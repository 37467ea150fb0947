import Glibc
import Testing

/// Whether this is CI, where a missing requirement fails a test instead of skipping it.
package let isCI = getenv("CI").map { String(cString: $0) } == "true"

extension Trait where Self == ConditionTrait {
    package static var needsFUSE: Self {
        skipped(access("/dev/fuse", R_OK | W_OK) != 0, "/dev/fuse cannot be opened here")
    }

    package static var needsRoot: Self {
        skipped(geteuid() != 0, "needs root, to become other users or abort connections")
    }

    package static var needsRedis: Self {
        skipped(!RedisServer.isInstalled, "redis-server, redis-cli or openssl is not installed")
    }

    package static func needs(_ programs: String...) -> Self {
        let missing = programs.filter { !isInstalled($0) }
        return skipped(!missing.isEmpty, "not installed: \(missing.joined(separator: ", "))")
    }

    private static func skipped(_ isMissing: Bool, _ reason: Comment) -> Self {
        .disabled(if: !isCI && isMissing, reason)
    }
}

/// `PATH` for the programs that tests run.
///
/// The system's directories come first: version managers put slow wrappers into `PATH` that other users cannot run.
package let programPath =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:"
    + (getenv("PATH").map { String(cString: $0) } ?? "")

package func isInstalled(_ program: String) -> Bool {
    programPath.split(separator: ":").contains { access("\($0)/\(program)", X_OK) == 0 }
}
