import Fuse
import Liveness
import SystemPackage

/// Records of others who share the town's name, as the mirror brings them.
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

    /// Calls `body` for the signal file at a path, if there can be one in this town.
    ///
    /// Without a real directory there is none: in it, nobody could find the file. And where something else than a regular
    /// file has the name, that is what it is.
    private func withSignalFile(
        at path: [UInt8], _ body: (SignalFile, _ parent: Descriptor) throws(Errno) -> Void?
    ) {
        let (parent, name) = path.parentAndName
        do throws(Errno) {
            let real = try town.backing.directory(at: parent)
            var directory: SignalDirectory? = signals.root
            for name in parent.split(separator: UInt8(ascii: "/")) {
                directory = signals.directory(NodeName(name), in: directory)
            }
            guard let directory, directory.scope.matches(name.bytes), try isFree(name, in: real) else { return }
            try directory.withFile(name) { (file) throws(Errno) in try body(file, real) }
            // Nothing has come of it: nobody needs to know of it.
            if let file = directory.known(name), file.retire() { directory.drop(file) }
        } catch .noSuchFileOrDirectory, .notDirectory, .tooManySymbolicLinkLevels, .staleNFSFileHandle {
        } catch {
            town.log.error("cannot take in what another host did to \(String(printable: path)): \(error)")
        }
    }

    private func isFree(_ name: NodeName, in real: Descriptor) throws(Errno) -> Bool {
        do throws(Errno) {
            return try name.withPointer { (name) throws(Errno) in
                try FileStatus(of: name, in: real.rawValue)
            }.isRegularFile
        } catch .noSuchFileOrDirectory {
            return true
        }
    }
}
