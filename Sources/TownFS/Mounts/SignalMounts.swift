import Fuse
import Linux
import Liveness
import Synchronization
import SystemPackage

/// The file systems of `--scope=signals`: `.pulse`, and one for each directory of signal files.
///
/// They share one `Town` and one tree of `SignalDirectory`. Each has its own nodes and open files. All paths are
/// relative to the town root.
package final class SignalMounts: Sendable {
    private let town: Town
    private let signals: SignalDirectory
    private let mounts = Mounts()
    /// The file system over `.pulse`.
    package let pulse: PulseFileSystem

    private final class Mounts: Sendable {
        let byPath = Mutex<[[UInt8]: TreeFileSystem]>([:])

        var all: [TreeFileSystem] { byPath.withLock { Array($0.values) } }

        var counts: TownStatus.FileSystem {
            all.map(\.counts).reduce(into: TownStatus.FileSystem(inodes: 0, openFiles: 0)) {
                $0.inodes += $1.inodes
                $0.openFiles += $1.openFiles
            }
        }
    }

    /// - Parameters:
    ///   - state: Where a successor finds what is open in `.pulse`.
    ///   - mountpoints: The directories that a predecessor served, opened before they were mounted on.
    ///   - server: The part of `.pulse/status.json` that only the process knows.
    package init(
        of town: Town, state: SharedState, over mountpoints: [(path: [UInt8], directory: SharedDescriptor)],
        server: @escaping @Sendable () -> TownStatus.Server
    ) throws(Errno) {
        self.town = town
        // Before the signal files are restored, which must not ask the kernel for what this process does not serve yet.
        for (path, directory) in mountpoints {
            town.backing.addMountpoint(path, try OwnedDescriptor(duplicating: directory.rawValue))
        }
        signals = SignalDirectory(rootOf: town)
        let records = state.handles()
        pulse = PulseFileSystem(
            of: town, signals: signals, top: .root, generation: state.inodeGeneration, records: records,
            files: HandleTable(records: records), directories: DirectoryHandles(records: records),
            treeCounts: { [mounts] in mounts.counts }, server: server)
    }

    /// Makes the file system of a directory that is mounted on, and reads its signal files.
    ///
    /// - Parameters:
    ///   - path: Relative to the town root.
    ///   - directory: Opened before mounting.
    ///   - state: Where a successor finds what it needs. If it holds some, this is the successor.
    package func add(
        _ path: [UInt8], _ directory: SharedDescriptor, state: SharedState
    ) throws(Errno) -> TreeFileSystem {
        town.backing.addMountpoint(path, try OwnedDescriptor(duplicating: directory.rawValue))
        do throws(Errno) {
            let fileSystem = try TreeFileSystem(
                town, covering: path, root: town.backing.directory(at: path), signals: signals, state: state,
                handles: state.handles())
            mounts.byPath.withLock { $0[path] = fileSystem }
            return fileSystem
        } catch {
            town.backing.removeMountpoint(path)
            throw error
        }
    }

    /// Writes back and ends the signal files in and under a directory that is unmounted or has left its path.
    ///
    /// Writes through files that are still open are lost. Records of runtimes stay.
    package func remove(_ path: [UInt8]) {
        let directory = signals.all(under: path).first
        writeBack(path)
        for (file, content) in directory?.detachSubtree() ?? [] {
            // Touched after the write-back.
            try? town.backing.withDirectory(at: file.directory.path) { (real) throws(Errno) in
                try BackingDocument.replace(file.name, in: real, with: content, now: town.now.wall, evenIfNewer: true)
            }
        }
        mounts.byPath.withLock { $0[path] = nil }
        town.backing.removeMountpoint(path)
    }

    /// Writes back all signal files in and under a directory.
    package func writeBack(_ path: [UInt8]) {
        town.writeback.writeNow(signals.allFiles(under: path))
    }

    private func fileSystem(holding path: [UInt8]) -> TreeFileSystem? {
        mounts.byPath.withLock { mounts in
            mounts.first { directory, _ in path.starts(with: directory + [UInt8(ascii: "/")]) }?.value
        }
    }
}

/// Records of other hosts: those of signal files go to their mount.
extension SignalMounts: SharedRecordReceiver {
    package func receive(_ touch: Touch, exit: Record.Exit?) {
        if let path = touch.signal {
            fileSystem(holding: path)?.receive(touch, exit: exit)
        } else {
            _ = town.liveness.receive(touch, exit: exit)
        }
    }

    package func receiveForget(_ subject: RecordSubject, stamp: HLCTimestamp, at time: WallTime) {
        if case .signal(let path) = subject {
            fileSystem(holding: path.bytes)?.receiveForget(subject, stamp: stamp, at: time)
        } else {
            _ = town.liveness.receiveForget(subject, stamp: stamp)
        }
    }
}

extension SignalMounts: DetachableFileSystem {
    package func detach() {
        town.recordDetached()
        for fileSystem in mounts.all { fileSystem.detach() }
    }

    package func invalidateEverything(names: Bool) {
        for fileSystem in mounts.all { fileSystem.invalidateEverything(names: names) }
    }

    package func keepDescriptorsAgain() {
        for fileSystem in mounts.all { fileSystem.keepDescriptorsAgain() }
    }
}
