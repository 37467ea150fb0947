import Fuse
import Liveness
import SystemPackage

/// Records of other hosts that share the town.
extension TreeFileSystem: SharedRecordReceiver {
    package func receive(_ touch: Touch, exit: Record.Exit?) {
        guard let path = touch.signal else {
            _ = town.liveness.receive(touch, exit: exit)
            return
        }
        withSignalFile(at: path) { (file, parent) throws(Errno) in try file.receive(touch, in: parent) }
    }

    package func receiveForget(_ inodeKind: RecordSubject, stamp: HLCTimestamp, at time: WallTime) {
        guard case .signal(let path) = inodeKind else {
            _ = town.liveness.receiveForget(inodeKind, stamp: stamp)
            return
        }
        withSignalFile(at: path.bytes) { (file, parent) throws(Errno) in
            try file.receiveForget(stamp: stamp, at: time, in: parent)
            if file.isRemoved { nodes.detach(file) }
            return ()
        }
    }

    /// Calls `body` for the signal file at a path, if there can be one.
    ///
    /// There can be none without a backing directory, or where the backing file is no regular file.
    private func withSignalFile(
        at path: [UInt8], _ body: (SignalFile, _ parent: ParentDirectory) throws(Errno) -> Void?
    ) {
        let (parent, name) = path.parentAndName
        do throws(Errno) {
            let real = try town.backing.directory(at: parent)
            // Another type of file may have the name.
            guard let directory = signals.descendant(parent), directory.scope.matches(name.bytes),
                try name.status(in: real.rawValue)?.isRegularFile != false
            else { return }
            try directory.withFile(name) { (file) throws(Errno) in try body(file, .open(real)) }
            // The record was not accepted: no object is needed.
            if let file = directory.known(name), file.retire() { directory.drop(file) }
        } catch .noSuchFileOrDirectory, .notDirectory, .tooManySymbolicLinkLevels, .staleNFSFileHandle {
        } catch {
            town.log.error("cannot take in what another host did to \(String(printable: path)): \(error)")
        }
    }
}
