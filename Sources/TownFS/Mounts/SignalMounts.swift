import Fuse
import Linux
import Liveness
import Synchronization
import SystemPackage

/// The file systems of a town of which only `.pulse` and the directories of signal files are mounted over, each by itself.
///
/// They share one `Town` and one tree of `SignalDirectory`, and have nodes and open files of their own. Whatever is named
/// by a path is named relative to the town root, as with one mount over all of it.
package final class SignalMounts: Sendable {
    private let town: Town
    private let signals: SignalDirectories
    private let mounts: Mounts
    /// What is served over `.pulse`.
    package let pulse: PulseFileSystem

    private final class Mounts: Sendable {
        let byPath = Mutex<[[UInt8]: TreeFileSystem]>([:])

        var counts: TownStatus.FileSystem {
            byPath.withLock { Array($0.values) }.reduce(into: TownStatus.FileSystem(inodes: 0, openFiles: 0)) {
                $0.inodes += $1.counts.inodes
                $0.openFiles += $1.counts.openFiles
            }
        }
    }

    /// - Parameter describe: Fills in what only the process knows of the status in `.pulse`.
    package init(
        of town: Town, describe: @escaping @Sendable (TownFileSystem.Snapshot) -> TownStatus
    ) {
        self.town = town
        let signals = SignalDirectories(town: town)
        let mounts = Mounts()
        self.signals = signals
        self.mounts = mounts
        pulse = PulseFileSystem(
            of: town, signals: signals, top: .root, treeCounts: { mounts.counts }, describe: describe)
    }

    /// Makes the file system of a directory that has just been mounted over, and takes in what its signal files say.
    ///
    /// - Parameters:
    ///   - path: Relative to the town root.
    ///   - directory: Opened before it was mounted over.
    package func add(
        _ path: [UInt8], takingOwnershipOf directory: consuming OwnedDescriptor
    ) throws(Errno) -> TreeFileSystem {
        town.backing.cover(path, with: directory)
        do throws(Errno) {
            let fileSystem = try TreeFileSystem(
                town, covering: .directory(path), root: town.backing.directory(at: path), signals: signals)
            mounts.byPath.withLock { $0[path] = fileSystem }
            return fileSystem
        } catch {
            town.backing.uncover(path)
            throw error
        }
    }

    /// Ends the signal files at and beneath a directory that is no longer mounted over, or not at its path any more.
    ///
    /// Their documents are in real files then, as far as those can be written. Whoever still has one open writes to nothing.
    /// What is known of runtimes stays.
    package func remove(_ path: [UInt8]) {
        let directory = signals.all(backing: path).first
        writeback(path)
        for (file, content) in directory?.detachSubtree() ?? [] {
            // Touched meanwhile.
            try? town.backing.withDirectory(at: file.directory.path) { (real) throws(Errno) in
                try BackingDocument.replace(file.name, in: real, with: content, now: town.now.wall, evenIfNewer: true)
            }
        }
        mounts.byPath.withLock { $0[path] = nil }
        town.backing.uncover(path)
    }

    /// Has the documents of all signal files at and beneath a directory in their real files.
    package func writeback(_ path: [UInt8]) {
        town.writeback.writeNow(signals.allFiles(backing: path))
    }

    private func fileSystem(holding path: [UInt8]) -> TreeFileSystem? {
        mounts.byPath.withLock { mounts in
            mounts.first { cover, _ in path.starts(with: cover + [UInt8(ascii: "/")]) }?.value
        }
    }
}

/// Records of others who share the town's name: those of signal files go to the mount in which they lie.
extension SignalMounts: SharedRecordReceiver {
    package func receive(_ touch: Touch, exit: Record.Exit?) {
        guard let path = touch.signal else {
            _ = town.liveness.receive(touch, exit: exit)
            return
        }
        fileSystem(holding: path)?.receive(touch, exit: exit)
    }

    package func receiveForget(_ inodeKind: RecordSubject, stamp: HLCTimestamp, at time: WallTime) {
        guard case .signal(let path) = inodeKind else {
            _ = town.liveness.receiveForget(inodeKind, stamp: stamp)
            return
        }
        fileSystem(holding: path.bytes)?.receiveForget(inodeKind, stamp: stamp, at: time)
    }
}

/// What one mount of a town covers.
enum SignalMount {
    /// All of it, with `.pulse` in its root.
    case town
    /// A directory that can hold signal files, and what is beneath it, by its path relative to the town root.
    case directory([UInt8])
}
