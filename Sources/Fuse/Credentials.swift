import CLinux
import Glibc
import Linux
import SystemPackage

/// The credentials of serving threads, for a server that is root and serves other users.
///
/// The kernel checks permissions before it sends a request, with groups and access control lists that are not in the
/// request. So a thread always keeps root's capabilities; only the owner of a new file, and the bits that a write
/// clears, follow the caller. Linux has credentials and capabilities per thread, and after unshare(2) a umask too.
///
/// Sources: credentials(7), capabilities(7), setfsuid(2), unshare(2).
package enum Credentials {
    /// Lets threads take other users' ids and keep their capabilities.
    ///
    /// To be called before there are further threads.
    ///
    /// Drops CAP_SYS_RESOURCE: with it the kernel would give users the blocks, quotas and flags reserved for root.
    ///
    /// - Throws: EPERM without CAP_SETPCAP.
    static func prepareProcess() throws(Errno) {
        let bits = try retryingInterrupts { clinux_securebits() }
        _ = try retryingInterrupts { clinux_set_securebits(bits | CInt(1 << SECURE_NO_SETUID_FIXUP)) }
        var capabilities = try Capabilities()
        capabilities.drop(CAP_SYS_RESOURCE)
        try capabilities.apply()
    }

    /// Whether the calling thread has CAP_SYS_ADMIN, in any user namespace.
    static var mayAdminister: Bool { (try? Capabilities())?[CAP_SYS_ADMIN] ?? false }

    /// Whether the calling thread has CAP_DAC_READ_SEARCH, in any user namespace.
    static var mayListEverything: Bool { (try? Capabilities())?[CAP_DAC_READ_SEARCH] ?? false }

    /// Gives the calling thread a umask of its own.
    ///
    /// - Throws: EPERM where a seccomp filter forbids it.
    static func prepareThread() throws(Errno) {
        _ = try retryingInterrupts { unshare(CInt(CLONE_FS)) }
    }

    /// Runs `body`, which creates a file, with the caller's umask and, if `isShared`, the caller's user and group.
    ///
    /// The backing file system applies the umask: in a directory with a default access control list it does not count.
    static func withCaller<Result, Failure: Error>(
        for caller: Request, isShared: Bool, _ body: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        umask(caller.umask)
        guard isShared, caller.user != 0 || caller.group != 0 else { return try body() }
        // Neither call reports an error. With root's capabilities there is none.
        let group = setfsgid(caller.group)
        let user = setfsuid(caller.user)
        defer {
            setfsuid(uid_t(bitPattern: user))
            setfsgid(gid_t(bitPattern: group))
        }
        return try body()
    }

    /// Runs `body`, which takes up space, with the caller as the file system user, if the server is root.
    ///
    /// File systems reserve blocks for a user, root by default. They look at this id alone when they give them out.
    package static func withUser<Result, Failure: Error>(
        _ user: uid_t, _ body: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        guard user != 0, serverIsRoot else { return try body() }
        let former = setfsuid(user)
        defer { setfsuid(uid_t(bitPattern: former)) }
        return try body()
    }

    private static let serverIsRoot = geteuid() == 0

    /// Runs `body`, which changes a file's bytes, without the right to keep set-id bits on it.
    ///
    /// The set-group-id bit of a file that its group may not execute stays if the file has the caller's group. The caller's
    /// supplementary groups are not in the request and do not count.
    static func killingPrivileges<Result, Failure: Error>(
        for caller: Request, _ body: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        guard var capabilities = try? Capabilities(), capabilities[CAP_FSETID] else { return try body() }
        capabilities[CAP_FSETID] = false
        try? capabilities.apply()
        let group = setfsgid(caller.callingGroup)
        defer {
            setfsgid(gid_t(bitPattern: group))
            capabilities[CAP_FSETID] = true
            try? capabilities.apply()
        }
        return try body()
    }
}
