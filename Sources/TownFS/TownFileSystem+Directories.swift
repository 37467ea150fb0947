import CLinux
import Fuse
import Glibc
import SystemCalls
import SystemPackage

extension TownFileSystem {
    package func opendir(_ inode: InodeNumber, for request: Request) throws(Errno) -> OpenDirectoryReply {
        let opened: OpenDirectory
        var isListingKept = false
        switch try subject(inode) {
        case .pulse:
            let entries = try pulse.entries(of: inode).map { entry in
                OpenDirectory.Listed(
                    name: NodeName(Array(entry.name.utf8)), number: entry.number,
                    kind: entry.isDirectory ? S_IFDIR : S_IFREG)
            }
            opened = OpenDirectory(inode, listing: { () throws(Errno) in entries })
        case .signal:
            throw .notDirectory
        case .backing:
            let directory = try directory(inode)
            let real = try directory.descriptor.reopenedDirectory()
            if let signals = directory.signals {
                opened = OpenDirectory(
                    inode, real: real, listing: { () throws(Errno) in try signals.listing(over: real) })
            } else {
                let device = try nodes.node(inode).identity?.device ?? 0
                opened = OpenDirectory(inode, streaming: real) { [others] in others.number($0, on: device) }
            }
            // Signal files come and go without the kernel's doing.
            isListingKept = features.isExclusive && directory.signals?.scope.hasSignals != true
        }
        return OpenDirectoryReply(handle: directories.insert(opened), isListingKept: isListingKept)
    }

    package func readdir(
        _ inode: InodeNumber, _ handle: FileHandle, from offset: off_t, into reply: inout DirectoryReply,
        for request: Request
    ) throws(Errno) {
        try directories[handle].forEach(from: offset) { (entry) throws(Errno) in
            entry.name.withPointer { name in
                reply.add(
                    FileName(borrowing: name), number: entry.number, mode: entry.kind, nextOffset: entry.nextOffset)
            }
        }
    }

    package func readdirplus(
        _ inode: InodeNumber, _ handle: FileHandle, from offset: off_t, into reply: inout DirectoryReply,
        for request: Request
    ) throws(Errno) {
        try directories[handle].forEach(from: offset) { (listed) throws(Errno) in
            listed.name.withPointer { pointer in
                let name = FileName(borrowing: pointer)
                guard reply.hasRoom(for: name) else { return false }
                if listed.isDots {
                    return reply.add(
                        name, entry: .unknown(number: listed.number, mode: listed.kind),
                        nextOffset: listed.nextOffset)
                }
                do throws(Errno) {
                    return reply.add(
                        name, entry: try find(name, in: inode, for: request), nextOffset: listed.nextOffset)
                } catch .noSuchFileOrDirectory {
                    // Gone since it was read: not listed, as if it had gone before.
                    return true
                } catch {
                    // It is there; why it cannot be looked up is for those to hear who do so.
                    return reply.add(
                        name, entry: .unknown(number: listed.number, mode: listed.kind),
                        nextOffset: listed.nextOffset)
                }
            }
        }
    }

    package func releasedir(_ handle: FileHandle) {
        _ = directories.remove(handle)
    }

    package func fsyncdir(_ inode: InodeNumber, _ handle: FileHandle, dataOnly: Bool) throws(Errno) {
        guard case .backing = try subject(inode) else {
            // Of `.pulse`: every document there is, wherever it lies.
            if pulse.isTop(inode), let failure = town.writeDown.writeNow(signals.allFiles(beneath: [])) {
                throw failure
            }
            return
        }
        let node = try nodes.node(inode)
        // The signal files at and beneath this directory: for the root, that is every document.
        if let signals = node.signals {
            let files = self.signals.allFiles(beneath: signals.path)
            if let failure = town.writeDown.writeNow(files) { throw failure }
        }
        guard let real = try directories[handle].real else { return }
        _ = try retryingInterrupts { dataOnly ? fdatasync(real.rawValue) : Glibc.fsync(real.rawValue) }
    }
}

extension Entry {
    /// An entry that is listed without being looked up, as `.` and `..` are.
    fileprivate static func unknown(number: ino_t, mode: mode_t) -> Entry {
        var status = FileStatus()
        status.st_ino = number
        status.st_mode = mode
        return Entry(inode: InodeNumber(rawValue: 0), status: status, nameTimeout: 0, statusTimeout: 0)
    }
}

extension SignalDirectory {
    /// All names in the directory: those of the real one, and signal files that have not been written down.
    ///
    /// Each once.
    fileprivate func listing(over real: Descriptor) throws(Errno) -> [OpenDirectory.Listed] {
        var entries: [OpenDirectory.Listed] = []
        var pending: [NodeName: SignalFile] = [:]
        var hidden: Set<NodeName> = []
        for file in knownFiles {
            switch file.listing {
            case .shown: pending[file.name] = file
            case .hidden: hidden.insert(file.name)
            case .asBeneath: break
            }
        }
        try DirectoryStream(real).forEach(from: 0) { (listed) throws(Errno) in
            var entry = listed
            let bytes = entry.name.bytes
            // The real `.pulse`, if there is one, is covered by ours, which no listing shows.
            if RealFile.isTemporary(bytes, in: scope) || (path.isEmpty && bytes == PulseDirectory.name) { return true }
            if scope.matches(bytes), entry.kind == S_IFREG || entry.kind == 0 {
                if hidden.contains(entry.name) || hasExpired(entry.name, in: real) { return true }
                pending[entry.name] = nil
                entry.number = SignalFile.inodeNumber(of: path.isEmpty ? bytes : path + [UInt8(ascii: "/")] + bytes)
            }
            entries.append(entry)
            return true
        }
        for file in pending.values {
            entries.append(OpenDirectory.Listed(name: file.name, number: file.number, kind: S_IFREG))
        }
        return entries
    }
}
