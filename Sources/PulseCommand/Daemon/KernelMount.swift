import CLinux
import Fuse
import Glibc
import Linux
import SystemPackage

/// Mounting, unmounting and detaching a town: by mount(2) for root, through `fusermount3` for everybody else.
enum KernelMount {
    static let device = "/dev/fuse"

    /// Mounts over a directory and returns the connection, on which nothing has been read yet.
    ///
    /// - Parameters:
    ///   - path: The directory, without symbolic links.
    ///   - root: The same directory, open. It is mounted on whatever it is called by now.
    ///   - options: Restrictions are beyond those of the file system beneath.
    ///   - source: What the table of mounts shall show.
    static func mount(
        over path: String, root: CInt, options: MountOptions, source: String = MountEntry.source
    ) throws -> OwnedDescriptor {
        geteuid() == 0
            ? try mountAsRoot(over: path, root: root, options, source)
            : try mountAsUser(over: path, options, source)
    }

    private static func mountAsRoot(
        over path: String, root: CInt, _ options: MountOptions, _ source: String
    ) throws -> OwnedDescriptor {
        let connection: OwnedDescriptor
        do {
            connection = try OwnedDescriptor(opening: device, in: AT_FDCWD, O_RDWR)
        } catch {
            throw unusableDevice(error)
        }
        // What the file system beneath forbids stays forbidden above.
        var backing = FileSystemStatus()
        _ = try retryingInterrupts { fstatvfs(root, &backing) }
        let kept = backing.f_flag & UInt(MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY)
        let flags = options.restrict.reduce(kept) { $0 | $1.flag }
        let data =
            "fd=\(connection.rawValue),rootmode=40000,user_id=\(geteuid()),group_id=\(getegid()),default_permissions"
            + (options.allowOther ? ",allow_other" : "")
        do {
            _ = try retryingInterrupts {
                Glibc.mount(source, "/proc/self/fd/\(root)", "fuse.pulsefs", flags, data)
            }
        } catch {
            throw Failure("cannot mount over \(path): \(error)\(hint(error))")
        }
        return connection
    }

    private static func hint(_ error: Errno) -> String {
        switch error {
        case .notPermitted: ". Mounting needs CAP_SYS_ADMIN; a container may have been started without it"
        case .operationNotSupportedByDevice: ". The kernel has no FUSE: try 'modprobe fuse'"
        default: ""
        }
    }

    /// Lets `fusermount3` mount; it hands the connection back over a socket.
    private static func mountAsUser(
        over path: String, _ options: MountOptions, _ source: String
    ) throws -> OwnedDescriptor {
        let sockets = try DescriptorPair.sockets()
        let ours = sockets.first
        let theirs = sockets.second
        // A comma would end it, were it not for a backslash.
        let name = String(source.flatMap { $0 == "," || $0 == "\\" ? ["\\", $0] : [$0] })
        var list = ["fsname=\(name)", "subtype=pulsefs", "default_permissions"] + options.restrict.map(\.rawValue)
        if options.allowOther { list.append("allow_other") }
        let status: Int32
        let words: String
        do throws(Errno) {
            (status, words) = try runFusermount(
                ["-o", list.joined(separator: ","), "--", path], handing: theirs.rawValue,
                environment: ["_FUSE_COMMFD=3"])
        } catch .noSuchFileOrDirectory {
            throw Failure("cannot mount as an ordinary user: there is no fusermount3. Install the package fuse3.")
        } catch {
            throw Failure("cannot run fusermount3: \(error)")
        }
        guard status == 0 else { throw Failure("cannot mount over \(path): \(words)") }
        var byte: UInt8 = 0
        var received: CInt = -1
        _ = clinux_receive_message(ours.rawValue, &byte, 1, &received)
        guard received >= 0 else { throw Failure("fusermount3 has mounted \(path) but handed no connection over.") }
        return OwnedDescriptor(takingOwnershipOf: received)
    }

    /// Runs `fusermount3` to its end.
    ///
    /// - Parameter handed: A descriptor to be its number 3.
    /// - Returns: its exit status, and what it said on standard error, in one line.
    private static func runFusermount(
        _ arguments: [String], handing handed: CInt? = nil, environment: [String] = []
    ) throws(Errno) -> (status: Int32, words: String) {
        let pipe = try DescriptorPair.pipe()
        let output = pipe.first
        let itsEnd = pipe.second
        let helper = try ChildProcess.spawn(
            "fusermount3", ["fusermount3"] + arguments,
            descriptors: [.null, .null, .inherited(itsEnd.rawValue)] + (handed.map { [.inherited($0)] } ?? []),
            environment: environment)
        _ = consume itsEnd
        let words = try output.readToEnd().split(separator: "\n").joined(separator: "; ")
        return (helper.wait(), words)
    }

    /// Says, before anything is started, why FUSE cannot be used here.
    static func check() throws {
        if geteuid() != 0, !isInPath("fusermount3") {
            throw Failure("cannot mount as an ordinary user: there is no fusermount3. Install the package fuse3.")
        }
        // fusermount3 opens the device with the caller's rights, not with its own.
        if access(device, R_OK | W_OK) == -1 { throw unusableDevice(.current) }
    }

    private static func unusableDevice(_ error: Errno) -> Failure {
        switch error {
        case .noSuchFileOrDirectory:
            Failure("there is no \(device). Load the module ('modprobe fuse'), or give the container the device.")
        case .permissionDenied:
            Failure(
                "\(device) may not be opened by this user. It should have mode 0666: 'chmod 666 \(device)' as root.")
        default:
            Failure("cannot open \(device): \(error)")
        }
    }

    private static func isInPath(_ program: String) -> Bool {
        let path = getenv("PATH").map { String(cString: $0) } ?? "/usr/bin:/bin"
        return path.split(separator: ":").contains { access("\($0)/\(program)", X_OK) == 0 }
    }

    // MARK: Unmounting

    /// Unmounts.
    ///
    /// EBUSY while somebody uses it, unless `isLazy`: then it goes from view, and away after the last use.
    static func unmount(_ path: String, isLazy: Bool) throws(Errno) {
        do throws(Errno) {
            _ = try retryingInterrupts { umount2(path, CInt(UMOUNT_NOFOLLOW) | (isLazy ? CInt(MNT_DETACH) : 0)) }
        } catch .notPermitted where geteuid() != 0 {
            try unmountAsUser(path, isLazy: isLazy)
        }
    }

    private static func unmountAsUser(_ path: String, isLazy: Bool) throws(Errno) {
        let (status, _) = try runFusermount(["-u"] + (isLazy ? ["-z"] : []) + ["--", path])
        guard status != 0 else { return }
        // It does not say why, other than in words: EBUSY is what is left once it is ours and mounted.
        guard let entry = try MountTable().pulsefs(at: path) else { throw .invalidArgument }
        throw entry.user == geteuid() ? .resourceBusy : .notPermitted
    }

    /// Takes a mount out of everybody's sight, whoever uses it and wherever it is by now.
    static func detach(_ entry: MountEntry) throws(Errno) {
        try detach([entry])
    }

    /// Takes all mounts of a town out of everybody's sight, of which `main` is the main one.
    static func detachAll(of main: MountEntry) throws(Errno) {
        try detach(MountTable().signalMounts(of: main) + [main])
        if main.isPulse { PulseMountpoint.remove(from: main.town) }
    }

    /// The same for several; what keeps one from going keeps no other.
    static func detach(_ entries: [MountEntry]) throws(Errno) {
        guard !entries.isEmpty else { return }
        let table = try MountTable()
        var failure: Errno?
        for entry in entries {
            guard let now = table.current(entry) else { continue }
            do throws(Errno) {
                try unmount(now.path, isLazy: true)
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
    }

    /// Whether somebody is inside, of a mount that root might unmount.
    ///
    /// The corresponding flag of umount2(2) is `MNT_EXPIRE`, which marks what nobody uses; the mark goes with the next look.
    static func isInUse(_ entry: MountEntry) -> Bool {
        guard umount2(entry.path, CInt(UMOUNT_NOFOLLOW) | CInt(MNT_EXPIRE)) == -1 else { return false }
        let error = Errno.current
        _ = try? OwnedDescriptor(opening: entry.path, in: AT_FDCWD, O_PATH | O_NOFOLLOW)
        return error == .resourceBusy
    }
}
