import ArgumentParser
import CLinux
import Daemon
import Glibc
import Linux
import SystemPackage
import TownFS

struct Unmount: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Turn a town into plain files again.",
        discussion: """
            Returns when every document is in its backing file and the processes have ended. Fails while something uses \
            the town, and names it: processes, sockets, loop devices and mounts inside. --lazy detaches the town all the \
            same. A bind mount or another mount namespace (a sandbox, a container) may keep the town after that: unmount \
            names it, and it works on in the plain files.
            """)

    @Argument(help: .town, completion: .directory)
    var town: String

    @Flag(help: "Detach the town now, even if it is in use; open files go on working until they are closed.")
    var lazy = false

    /// How long write-back may take, and the end of the processes.
    private static let limit: Duration = .seconds(30)
    private static let pause: Duration = .milliseconds(20)
    /// How long a use that `/proc` does not show may last: that of a path lookup, or of a process that has just ended.
    private static let limitOfInvisibleUse: Duration = .seconds(1)

    func run() throws {
        let place = try TownPath(town)
        guard let mount = place.mount else {
            let orphans = try MountTable().orphans(of: place.path)
            guard orphans.isEmpty else { return try KernelMount.detach(orphans) }
            throw Failure("\(place.path) is not mounted.", .notMounted)
        }
        let town = mount.town
        let answer = try TownAnswer.status(of: mount)
        // False for a dead mount or one of another user.
        var isServed = false
        // A pidfd; nil if the keeper has died.
        var keeper: SharedDescriptor?
        if case .value(let status?) = answer {
            isServed = true
            keeper = (try? retryingInterrupts { clinux_pidfd_open(status.keeperPid) }).map {
                SharedDescriptor(OwnedDescriptor(takingOwnershipOf: $0))
            }
            try writeBack(mount)
        }
        let mounts = try MountTable().signalMounts(of: mount) + [mount]
        let users = MountUsers(of: mounts)
        let otherMounts = Set(users.otherMounts())
        try unmountUnlessInUse(mounts, users, of: town)
        if case .silent = answer, lazy { mounts.forEach(abort) }
        guard isServed, !lazy else { return }
        try wait(for: keeper, users, otherMounts, of: town)
    }

    /// Unmounts a town, or says what uses it.
    private func unmountUnlessInUse(_ mounts: [MountInfo], _ users: MountUsers, of town: String) throws {
        let limit = ContinuousClock.now + Self.limitOfInvisibleUse
        while true {
            do throws(Errno) {
                return try unmount(mounts, users, of: town)
            } catch .resourceBusy {
                let names = users.describeAll(of: mounts)
                if names.isEmpty, limit > .now {
                    usleep(20_000)
                    continue
                }
                let list = names.isEmpty ? "something that this user cannot see" : names.joined(separator: ", ")
                throw Failure("\(town) is in use by \(list).", .busy)
            } catch .notPermitted {
                throw Failure("\(town) was mounted by another user; only they and root may unmount it.")
            } catch {
                throw Failure("cannot unmount \(town): \(error)")
            }
        }
    }

    /// Unmounts all mounts of a town, or none; the main one last.
    ///
    /// With several, a process that enters one of them after the check finds it detached, as with --lazy.
    private func unmount(_ mounts: [MountInfo], _ users: MountUsers, of town: String) throws(Errno) {
        guard mounts.count > 1, !lazy else {
            for mount in mounts { try unmount(mount, users, of: town) }
            return
        }
        // Other users than root can only look at processes.
        let isInUse = geteuid() == 0 ? mounts.contains(where: KernelMount.isInUse) : !users.processes().isEmpty
        if isInUse, !users.areOnlyWatchers(of: town) { throw .resourceBusy }
        for (number, mount) in mounts.enumerated() {
            guard try MountTable().current(mount) != nil else { continue }
            do throws(Errno) {
                try unmount(mount, users, of: town)
            } catch .resourceBusy where number > 0 {
                try KernelMount.detach([mount])
            }
        }
    }

    /// Unmounts one mount.
    ///
    /// `pulsefs watch` and the like do not count as users.
    private func unmount(_ mount: MountInfo, _ users: MountUsers, of town: String) throws(Errno) {
        do throws(Errno) {
            try KernelMount.unmount(mount, isLazy: lazy)
        } catch .resourceBusy {
            guard users.areOnlyWatchers(of: town) else { throw .resourceBusy }
            try KernelMount.unmount(mount, isLazy: true)
        }
    }

    /// Has all documents written back before the unmount, so that no tool reads an older one in between.
    ///
    /// The request is an fsync of the main mount's root.
    private func writeBack(_ mount: MountInfo) throws {
        let path = mount.path
        let result = try within(lazy ? .seconds(1) : Self.limit) {
            Result { () throws(Errno) in
                let root = try OwnedDescriptor(opening: path, in: AT_FDCWD, O_RDONLY | O_DIRECTORY)
                _ = try retryingInterrupts { fsync(root.rawValue) }
            }
        }
        // The worker writes the rest when it ends.
        if lazy { return }
        switch result {
        case .success?: return
        case .failure(let error)?:
            throw Failure("\(mount.town) cannot write its documents back: \(error). --lazy unmounts all the same.")
        case nil: throw Failure("\(mount.town) does not write its documents back; --lazy does not wait.")
        }
    }

    /// Waits for the end of the processes.
    ///
    /// If something else keeps them, names it and returns.
    ///
    /// - Parameters:
    ///   - keeper: A pidfd; nil if it has ended.
    ///   - otherMounts: Those before the unmount. Afterwards another mount may have got the number of the device.
    private func wait(
        for keeper: SharedDescriptor?, _ users: MountUsers, _ otherMounts: Set<String>, of town: String
    ) throws {
        let limit = ContinuousClock.now + Self.limit
        // `pulsefs watch` closes its files within this time after the unmount.
        let invisibleLimit = ContinuousClock.now + .seconds(3)
        var keeper = keeper
        while limit > .now {
            var question = [pollfd(fd: keeper?.rawValue ?? -1, events: Int16(POLLIN), revents: 0)]
            // Without a keeper it waits for the whole pause: nothing announces the end of what a killed one has left.
            if poll(&question, until: .now + Self.pause) { keeper = nil }
            if keeper == nil, !TownLock.isServed(town) {
                return report(users.otherMounts().filter(otherMounts.contains), of: town)
            }
            // Mounted again: the locks cannot be seen any more.
            if try MountTable().town(at: town) != nil { return }
            guard TownLock.isDetachedMountServed(of: town) else { continue }
            let others = users.otherMounts().filter(otherMounts.contains)
            if !others.isEmpty { return report(others, of: town) }
            if invisibleLimit < .now { return report(["something that this user cannot see"], of: town) }
        }
        throw Failure("\(town) is unmounted, but documents are still being written back; see the log.")
    }

    private func report(_ others: [String], of town: String) {
        guard !others.isEmpty else { return }
        PulseFS.printError("\(town) is unmounted here; it stays mounted for \(others.joined(separator: ", ")).")
    }

    /// Aborts the connection of a mount that does not answer: all callers that wait for it get an error.
    private func abort(_ mount: MountInfo) {
        do throws(Errno) {
            try KernelMount.abort(mount)
        } catch {
            PulseFS.printError("cannot end the connection of \(mount.path): \(error). Kill its worker.")
        }
    }
}
