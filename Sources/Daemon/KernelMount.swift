import CLinux
import Fuse
import Glibc
import Linux
import SystemPackage

/// Mounts and unmounts: root by system calls, other users through `fusermount3`.
package enum KernelMount {
    package static let device = "/dev/fuse"

    /// A new mount.
    struct Mounted: ~Copyable {
        /// Nothing has been read from it yet.
        let connection: OwnedDescriptor
        let entry: MountInfo
        /// Keeps the superblock alive; only root has it.
        let superblock: FileSystemContext?
    }

    // MARK: Mounting

    /// Mounts on an open directory.
    ///
    /// - Parameters:
    ///   - path: Of the directory, without symbolic links.
    ///   - root: The same directory. Root mounts on it wherever it is by now.
    ///   - source: The first column of the mount table.
    static func mount(
        on path: String, root: CInt, options: MountOptions, source: String = MountInfo.wholeTown
    ) throws -> Mounted {
        geteuid() == 0
            ? try mountAsRoot(on: path, root: root, options, source)
            : try mountAsUser(on: path, options, source)
    }

    private static func mountAsRoot(
        on path: String, root: CInt, _ options: MountOptions, _ source: String
    ) throws -> Mounted {
        let connection: OwnedDescriptor
        do {
            connection = try OwnedDescriptor(opening: device, in: AT_FDCWD, O_RDWR)
        } catch {
            throw unusableDevice(error)
        }
        do {
            // What the backing file system forbids stays forbidden.
            var backing = FileSystemStatus()
            _ = try retryingInterrupts { fstatvfs(root, &backing) }
            let restrictions = Set(
                options.restrict + MountRestriction.allCases.filter { backing.f_flag & $0.flags.statvfs != 0 })
            let context = try FileSystemContext(type: "fuse")
            for (option, value) in [
                ("source", source), ("subtype", "pulsefs"), ("fd", "\(connection.rawValue)"), ("rootmode", "40000"),
                ("user_id", "\(geteuid())"), ("group_id", "\(getegid())"),
            ] { try context.set(option, to: value) }
            try context.set("default_permissions")
            if options.allowOther { try context.set("allow_other") }
            if restrictions.contains(.readOnly) { try context.set("ro") }
            let id = try context.mount(on: root, attributes: restrictions.reduce(0) { $0 | $1.flags.fsmount })
            guard let entry = try MountTable().entry(id) else { throw Errno.noSuchFileOrDirectory }
            return Mounted(connection: connection, entry: entry, superblock: context)
        } catch let error as Errno {
            let hint =
                switch error {
                case .notPermitted: ". Mounting needs CAP_SYS_ADMIN; a container may have been started without it"
                case .operationNotSupportedByDevice: ". The kernel has no FUSE: try 'modprobe fuse'"
                default: ""
                }
            throw Failure("cannot mount on \(path): \(error)\(hint)")
        }
    }

    private static var missingFusermount: Failure {
        Failure("cannot mount as an ordinary user: fusermount3 is missing. Install the package fuse3.")
    }

    private static func mountAsUser(on path: String, _ options: MountOptions, _ source: String) throws -> Mounted {
        let sockets = try DescriptorPair.sockets()
        let ours = OwnedDescriptor(takingOwnershipOf: sockets.0)
        let theirs = OwnedDescriptor(takingOwnershipOf: sockets.1)
        // fusermount3 splits options at commas that have no backslash before them.
        let name = String(source.flatMap { $0 == "," || $0 == "\\" ? ["\\", $0] : [$0] })
        var list = ["fsname=\(name)", "subtype=pulsefs", "default_permissions"] + options.restrict.map(\.rawValue)
        if options.allowOther { list.append("allow_other") }
        let outcome: (status: Int32, errors: String)
        do throws(Errno) {
            outcome = try runFusermount(
                ["-o", list.joined(separator: ","), "--", path], passing: theirs.rawValue,
                environment: ["_FUSE_COMMFD=3"])
        } catch .noSuchFileOrDirectory {
            throw missingFusermount
        } catch {
            throw Failure("cannot run fusermount3: \(error)")
        }
        guard outcome.status == 0 else { throw Failure("cannot mount on \(path): \(outcome.errors)") }
        guard let received = try? receiveMessage(ofAtMost: 1, from: ours.rawValue).descriptors.first else {
            throw Failure("fusermount3 mounted \(path) but returned no descriptor.")
        }
        let connection = try OwnedDescriptor(duplicating: received.rawValue)
        withExtendedLifetime(received) {}
        guard let entry = try MountTable().pulsefs(at: path) else {
            _ = try? runFusermount(["-u", "-z", "--", path])
            throw Failure("\(path) was mounted, but is not in the mount table; was it renamed?")
        }
        return Mounted(connection: connection, entry: entry, superblock: nil)
    }

    /// Runs `fusermount3` to its end.
    ///
    /// - Parameter passed: A descriptor for it, as number 3.
    /// - Returns: its exit status, and its standard error in one line.
    private static func runFusermount(
        _ arguments: [String], passing passed: CInt? = nil, environment: [String] = []
    ) throws(Errno) -> (status: Int32, errors: String) {
        let pipe = try DescriptorPair.pipe()
        let output = OwnedDescriptor(takingOwnershipOf: pipe.reader)
        let itsEnd = OwnedDescriptor(takingOwnershipOf: pipe.writer)
        let child = try ChildProcess.spawn(
            "fusermount3", ["fusermount3"] + arguments,
            descriptors: [.null, .null, .inherited(itsEnd.rawValue)] + (passed.map { [.inherited($0)] } ?? []),
            environment: environment)
        _ = consume itsEnd
        let errors = try output.readToEnd().split(separator: "\n").joined(separator: "; ")
        return (child.wait() ?? -1, errors)
    }

    /// Fails, before anything is started, if FUSE cannot be used here.
    package static func check() throws {
        if geteuid() != 0, FilePaths.inSearchPath("fusermount3") == nil { throw missingFusermount }
        // fusermount3 opens the device with the caller's rights.
        if access(device, R_OK | W_OK) == -1 { throw unusableDevice(.current) }
    }

    private static func unusableDevice(_ error: Errno) -> Failure {
        switch error {
        case .noSuchFileOrDirectory:
            Failure("\(device) is missing. Load the module ('modprobe fuse'), or give the container the device.")
        case .permissionDenied:
            Failure("this user may not open \(device). Its mode should be 0666: 'chmod 666 \(device)' as root.")
        default:
            Failure("cannot open \(device): \(error)")
        }
    }

    // MARK: Unmounting

    /// Unmounts, wherever the mount is now.
    ///
    /// Removes the directory that was made for a mount over `.pulse`.
    ///
    /// - Parameter isLazy: Detach it also while it is in use.
    /// - Throws: `resourceBusy` while it is in use; `invalidArgument` if it is not mounted any more, or something else is
    ///   mounted on top of it.
    package static func unmount(_ mount: MountInfo, isLazy: Bool) throws(Errno) {
        guard let mount = try MountTable().current(mount) else { throw .invalidArgument }
        let flags = CInt(UMOUNT_NOFOLLOW) | (isLazy ? CInt(MNT_DETACH) : 0)
        let mountpoint = try Mountpoint(of: mount)
        do throws(Errno) {
            _ = try retryingInterrupts { umount2(mountpoint.path, flags) }
        } catch .notPermitted where geteuid() != 0 {
            let (status, _) = try runFusermount(["-u"] + (isLazy ? ["-z"] : []) + ["--", mount.path])
            // fusermount3 gives the reason only as text. For a mount of ours it is EBUSY.
            guard status == 0 else { throw mount.user == geteuid() ? .resourceBusy : .notPermitted }
        }
        if mount.isPulse { PulseMountpoint.remove(in: mountpoint.parent.rawValue) }
    }

    /// The directory above a mountpoint, and a path that leads through it.
    ///
    /// A user may replace a directory above the mountpoint by a symbolic link at any time. So the path of the mount table
    /// is only a hint: what is found there is compared with the mount, and the parent is then used by descriptor. The
    /// mountpoint itself cannot be renamed.
    private struct Mountpoint: ~Copyable {
        let parent: OwnedDescriptor
        let path: String

        init(of mount: MountInfo) throws(Errno) {
            let full = FilePath(mount.path)
            let name = full.lastComponent?.string ?? ""
            let parent = try OwnedDescriptor(
                opening: full.removingLastComponent().string, in: AT_FDCWD, O_PATH | O_DIRECTORY)
            // Closed before the unmount: it uses the mount.
            let top = try OwnedDescriptor(opening: name, in: parent.rawValue, O_PATH | O_NOFOLLOW)
            guard ProcFS.location(ofLink: "/proc/self/fd/\(top.rawValue)")?.mount == UInt64(mount.id) else {
                throw .invalidArgument
            }
            path = "/proc/self/fd/\(parent.rawValue)/\(name)"
            self.parent = parent
        }
    }

    /// Detaches mounts that may be in use.
    ///
    /// A mount that is gone already is no error, and one failure stops no other.
    package static func detach(_ mounts: [MountInfo]) throws(Errno) {
        let table = try MountTable()
        var failure: Errno?
        for mount in mounts where table.current(mount) != nil {
            do throws(Errno) {
                try unmount(mount, isLazy: true)
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
    }

    /// Whether a mount is in use; only root can ask.
    ///
    /// The corresponding flag of umount2(2) is `MNT_EXPIRE`, which marks an unused mount; the next use clears the mark.
    package static func isInUse(_ mount: MountInfo) -> Bool {
        guard let mountpoint = try? Mountpoint(of: mount),
            umount2(mountpoint.path, CInt(UMOUNT_NOFOLLOW) | CInt(MNT_EXPIRE)) == -1
        else { return false }
        let error = Errno.current
        _ = try? OwnedDescriptor(opening: mountpoint.path, in: AT_FDCWD, O_PATH | O_NOFOLLOW)
        return error == .resourceBusy
    }

    /// Whether the kernel has ended a connection: its last mount is gone and no file is open, or it was aborted.
    static func hasEnded(_ connection: CInt) -> Bool {
        var questions = [pollfd(fd: connection, events: 0, revents: 0)]
        return poll(&questions, until: .now) && questions[0].revents & Int16(POLLERR) != 0
    }

    /// Ends the connection of a FUSE mount: every caller that waits for its server gets an error.
    ///
    /// - Throws: `noSuchFileOrDirectory` where the fusectl file system is not mounted.
    package static func abort(_ mount: MountInfo) throws(Errno) {
        let path = "/sys/fs/fuse/connections/\(mount.connection)/abort"
        let file = try OwnedDescriptor(opening: path, in: AT_FDCWD, O_WRONLY)
        _ = try retryingInterrupts { write(file.rawValue, "1", 1) }
    }
}
