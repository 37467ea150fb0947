import Fuse
import Liveness
import SystemPackage

/// Records of others who share the town's name, as the mirror brings them.
extension TownFileSystem: SharedRecordReceiver {
    package func receive(_ touch: Touch) {
        guard let path = touch.signal else {
            _ = town.liveness.receive(touch)
            return
        }
        withSignalFile(at: path) { (file, parent) throws(Errno) in file.receive(touch, in: parent) }
    }

    package func receiveForget(_ subject: RecordSubject, stamp: Stamp) {
        guard case .signal(let path) = subject else {
            _ = town.liveness.receiveForget(subject, stamp: stamp)
            return
        }
        withSignalFile(at: path.bytes) { (file, parent) throws(Errno) in
            try file.receiveForget(stamp: stamp, in: parent)
        }
    }

    /// Calls `body` for the signal file at a path, if there can be one in this town.
    ///
    /// Without a real directory there is none: in it, nobody could find the file.
    private func withSignalFile(
        at path: [UInt8], _ body: (SignalFile, _ parent: Descriptor) throws(Errno) -> Void?
    ) {
        let names = path.split(separator: UInt8(ascii: "/")).map { NodeName($0) }
        guard let name = names.last else { return }
        var directory: SignalDirectory? = signals.root
        for parent in names.dropLast() { directory = signals.directory(parent, in: directory) }
        guard let directory, directory.scope.matches(name.bytes) else { return }
        do throws(Errno) {
            let parent = try town.root.directory(at: directory.path)
            try directory.making(name) { (file) throws(Errno) in try body(file, parent) }
        } catch .noSuchFileOrDirectory, .notDirectory, .tooManySymbolicLinkLevels, .staleNFSFileHandle {
        } catch {
            town.log.error("cannot take in what another host did to \(String(printable: path)): \(error)")
        }
    }
}
