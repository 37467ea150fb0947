import ArgumentParser
import CLinux
import Glibc
import Linux
import SystemPackage
import TownFS

/// `pulsefs unmount`.
struct Unmount: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make a town plain files again.",
        discussion: """
            Returns when every document is in its real file and the processes are gone. Refuses while somebody uses the \
            town, and says who; --lazy takes it out of sight all the same.
            """)

    @Argument(help: .town, completion: .directory)
    var town: String

    @Flag(help: "Detach the town now, whoever uses it; open files go on working until they are closed.")
    var lazy = false

    /// How long documents may take to be written down, and the processes to end.
    private static let patience: Duration = .seconds(30)

    func run() throws {
        let place = try TownPath(town)
        guard let mount = place.mount else {
            if try detachOrphans(of: place.path) { return }
            throw Failure("\(place.path) is not mounted.", .notMounted)
        }
        let town = mount.town
        let answer = try StatusFile.read(of: town)
        let isSilent = if case .silent = answer { true } else { false }
        let keeper = keeper(by: answer)
        if keeper != nil { try writeback(mount) }
        let mounts = try MountTable().signalMounts(of: mount) + [mount]
        do throws(Errno) {
            try unmount(mounts)
        } catch .resourceBusy {
            let holders = mounts.flatMap { Holders.of($0) }
            let names = holders.isEmpty ? "a process that cannot be seen by this user" : holders.joined(separator: ", ")
            throw Failure("\(town) is in use by \(names).", .busy)
        } catch .notPermitted {
            throw Failure("\(town) was mounted by another user; only they and root may unmount it.")
        } catch {
            throw Failure("cannot unmount \(town): \(error)")
        }
        if case .dead = answer, mount.isPulse { PulseMountpoint.remove(from: town) }
        if isSilent, lazy { mounts.forEach(abort) }
        guard let keeper, !lazy else { return }
        var question = pollfd(fd: keeper.rawValue, events: Int16(POLLIN), revents: 0)
        while poll(&question, 1, CInt(Self.patience.components.seconds) * 1000) == -1 {}
        if question.revents == 0 {
            throw Failure(
                "\(town) is unmounted, but documents are still being written to their files; see the log.")
        }
    }

    /// Unmounts all mounts of a town, or none: of several the main one comes last.
    ///
    /// Whoever comes into one of them after we have looked finds it detached, as by --lazy.
    private func unmount(_ mounts: [MountEntry]) throws(Errno) {
        guard mounts.count > 1, !lazy else {
            for mount in mounts { try unmount(mount) }
            return
        }
        for mount in mounts where isInUse(mount) { throw .resourceBusy }
        for (number, mount) in mounts.enumerated() {
            guard try MountTable().current(mount) != nil else { continue }
            do throws(Errno) {
                try unmount(mount)
            } catch .resourceBusy where number > 0 {
                try KernelMount.detach(mount)
            }
        }
    }

    private func isInUse(_ mount: MountEntry) -> Bool {
        // Others than root see by their processes alone who is inside.
        let isInUse = geteuid() == 0 ? KernelMount.isInUse(mount) : !Holders.of(mount).isEmpty
        return isInUse && !Holders.areWatchersOnly(of: mount)
    }

    /// Takes away what was mounted over directories of signal files when even `.pulse` has gone.
    ///
    /// - Returns: Whether there was any.
    private func detachOrphans(of town: String) throws -> Bool {
        let orphans = try MountTable().orphans(of: town)
        try KernelMount.detach(orphans)
        return !orphans.isEmpty
    }

    /// Unmounts; who only watches does not count as a user.
    private func unmount(_ mount: MountEntry) throws(Errno) {
        do throws(Errno) {
            try KernelMount.unmount(mount.path, isLazy: lazy)
        } catch .resourceBusy {
            guard Holders.areWatchersOnly(of: mount) else { throw .resourceBusy }
            try KernelMount.unmount(mount.path, isLazy: true)
        }
    }

    /// The keeper, to wait for its end; nil for a dead mount, or another user's.
    private func keeper(by answer: TownAnswer<String>) -> OwnedDescriptor? {
        guard case .value(let text) = answer, let status = StatusFile.decode(text),
            let descriptor = try? retryingInterrupts({ clinux_pidfd_open(status.keeperPid) })
        else { return nil }
        return OwnedDescriptor(takingOwnershipOf: descriptor)
    }

    /// Has all documents written to their real files before the mount goes, so that there is no moment in which a tool
    /// reads an older one: an fsync of the town root does that, or of `.pulse` where that is a mount.
    private func writeback(_ mount: MountEntry) throws {
        let path = mount.path
        let failure: Errno?? = try within(lazy ? .seconds(1) : Self.patience) {
            do throws(Errno) {
                let root = try OwnedDescriptor(opening: path, in: AT_FDCWD, O_RDONLY | O_DIRECTORY)
                _ = try retryingInterrupts { fsync(root.rawValue) }
                return nil
            } catch {
                return error
            }
        }
        // A lazy one goes on: what is missing then, the worker writes when it ends.
        if lazy { return }
        guard let failure else {
            throw Failure("\(mount.town) does not write its documents down; --lazy does not wait.")
        }
        if let failure {
            throw Failure("\(mount.town) cannot write its documents down: \(failure). --lazy unmounts all the same.")
        }
    }

    /// Ends a connection whose server does not answer, so that nobody waits for it any more.
    private func abort(_ mount: MountEntry) {
        let file = "/sys/fs/fuse/connections/\(mount.connection)/abort"
        guard let file = try? OwnedDescriptor(opening: file, in: AT_FDCWD, O_WRONLY) else {
            return PulseFS.printError("who waits for \(mount.path) goes on waiting until its worker is killed.")
        }
        _ = write(file.rawValue, "1", 1)
    }
}
