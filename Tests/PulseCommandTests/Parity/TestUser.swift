import CLinux
import CSystemCall
import Glibc
import SystemPackage

/// A user who makes system calls.
///
/// Only root and nobody have an entry in /etc/passwd; the kernel needs none.
struct TestUser: Sendable, Equatable {
    let name: String
    let user: uid_t
    let group: gid_t
    var groups: [gid_t] = []

    static let root = TestUser(name: "root", user: 0, group: 0)
    /// The ordinary user of the harness.
    static let nobody = TestUser(name: "nobody", user: Command.User.nobody.id, group: Command.User.nobody.group)
    /// Shares a group with bob.
    static let alice = TestUser(name: "alice", user: 61001, group: 61001, groups: [shared])
    static let bob = TestUser(name: "bob", user: 61002, group: 61002, groups: [shared])
    /// Shares no group with the others.
    static let carol = TestUser(name: "carol", user: 61003, group: 61003)

    static let all = [root, nobody, alice, bob, carol]
    static let shared: gid_t = 61100

    /// The scenarios' names of user and group ids.
    static func name(of id: UInt32) -> String {
        id == shared ? "shared" : all.first { $0.user == id }?.name ?? "\(id)"
    }

    static func id(named name: String) -> UInt32? {
        name == "shared" ? shared : all.first { $0.name == name }?.user ?? UInt32(name)
    }
}

/// A thread with its own ids, working directory and umask, for system calls by several users.
///
/// It keeps root's capabilities permitted, to change ids again, but none effective while it is another user. File
/// systems cannot see the difference: checks use effective capabilities.
enum CallerThread {
    /// Runs `body` on such a thread and waits for its end.
    static func run<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) throws -> Value {
        try start(body).result()
    }

    /// Starts such a thread; the caller must ask for its result.
    static func start<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) throws -> Started<Value> {
        let work = Work {
            try systemCall(SYS_unshare, 0x200 /* CLONE_FS */)
            if geteuid() == 0 { try systemCall(SYS_prctl, Int(PR_SET_KEEPCAPS), 1) }
            // Writing to a pipe without a reader gives EPIPE, no signal.
            var signals = sigset_t()
            sigemptyset(&signals)
            sigaddset(&signals, SIGPIPE)
            pthread_sigmask(SIG_BLOCK, &signals, nil)
            return try body()
        }
        var thread = pthread_t()
        let failure = pthread_create(
            &thread, nil,
            { context in
                // because pthread_create takes a C function and a pointer; the thread takes over the reference.
                context.map { Unmanaged<AnyWork>.fromOpaque($0).takeRetainedValue().run() }
                return nil
            }, Unmanaged<AnyWork>.passRetained(work).toOpaque())
        guard failure == 0 else { throw Errno(rawValue: failure) }
        return Started(thread: thread, work: work)
    }

    /// A running thread.
    struct Started<Value: Sendable> {
        fileprivate let thread: pthread_t
        fileprivate let work: Work<Value>

        /// Waits for its end.
        ///
        /// Call it once.
        func result() throws -> Value {
            pthread_join(thread, nil)
            return try work.result()
        }
    }

    /// Changes to the ids of a user.
    ///
    /// Only root can, unless they are the current ids.
    static func become(_ caller: TestUser) throws {
        guard geteuid() != caller.user || caller.user == 0 else { return }
        try putCapabilitiesIntoEffect(true)
        let groups = caller.groups.flatMap { group in withUnsafeBytes(of: group) { Array($0) } }
        try withAddress(of: groups) { address in
            _ = try systemCall(SYS_setgroups, caller.groups.count, address)
        }
        let (user, group) = (Int(caller.user), Int(caller.group))
        try systemCall(SYS_setresgid, group, group, group)
        try systemCall(SYS_setresuid, user, user, user)
        if caller.user != 0 { try putCapabilitiesIntoEffect(false) }
    }

    private static func putCapabilitiesIntoEffect(_ isInEffect: Bool) throws {
        var header = __user_cap_header_struct(version: 0x2008_0522 /* _LINUX_CAPABILITY_VERSION_3 */, pid: 0)
        // Three capability sets of two words each.
        var sets = (__user_cap_data_struct(), __user_cap_data_struct())
        try filling(&header) { header in
            try filling(&sets) { sets in try systemCall(SYS_capget, header, sets) }
        }
        sets.0.effective = isInEffect ? sets.0.permitted : 0
        sets.1.effective = isInEffect ? sets.1.permitted : 0
        try filling(&header) { header in
            try filling(&sets) { sets in try systemCall(SYS_capset, header, sets) }
        }
    }

    fileprivate class AnyWork {
        func run() {}
    }

    /// Work for another thread, and its result.
    fileprivate final class Work<Value: Sendable>: AnyWork {
        private let body: @Sendable () throws -> Value
        private var outcome: Result<Value, any Error>?

        init(_ body: @escaping @Sendable () throws -> Value) { self.body = body }

        override func run() { outcome = Result { try body() } }

        /// Valid when the thread has ended.
        func result() throws -> Value {
            guard let outcome else { preconditionFailure("the thread has not run its work") }
            return try outcome.get()
        }
    }
}
