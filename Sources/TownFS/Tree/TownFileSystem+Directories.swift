import CLinux
import Fuse
import Glibc
import Linux
import SystemPackage

extension TownFileSystem {
    package func opendir(_ inode: InodeNumber, for request: Request) throws(Errno) -> OpenDirectoryReply {
        let opened = try openDirectory(inode)
        return OpenDirectoryReply(handle: directories.insert(opened), isListingKept: isListingKept(inode))
    }

    /// A directory to be listed for as long as somebody has it open.
    private func openDirectory(_ inode: InodeNumber) throws(Errno) -> OpenDirectory {
        switch try inodeKind(inode) {
        case .pulse:
            let entries = try pulseEntries(of: inode)
            return OpenDirectory(listing: { () throws(Errno) in entries })
        case .signal:
            throw .notDirectory
        case .backing:
            let directory = try directory(inode)
            let real = try nodes.retryingWithFewerDescriptors { () throws(Errno) in
                try directory.descriptor.reopenedDirectory()
            }
            if let signals = directory.signals {
                return OpenDirectory(real: real, listing: { () throws(Errno) in try signals.listing(over: real) })
            }
            return OpenDirectory(streaming: real, shown: try shownNumbers(inode))
        }
    }

    /// A directory to be listed by requests that nothing ties together.
    ///
    /// Where offsets are not the same for all openings, it is read as a whole.
    private func listedDirectory(_ inode: InodeNumber) throws(Errno) -> OpenDirectory {
        let directory = try openDirectory(inode)
        return try directory.hasLastingOffsets() ? directory : directory.snapshot()
    }

    private func pulseEntries(of inode: InodeNumber) throws(Errno) -> [OpenDirectory.Listed] {
        try pulse.entries(of: inode).map { entry in
            OpenDirectory.Listed(
                name: NodeName(Array(entry.name.utf8)), number: entry.number,
                kind: entry.isDirectory ? S_IFDIR : S_IFREG)
        }
    }

    /// What inode numbers in a directory are shown as.
    private func shownNumbers(_ inode: InodeNumber) throws(Errno) -> @Sendable (ino_t) -> ino_t {
        let device = try nodes.node(inode).identity?.device ?? 0
        return { [others] in others.number($0, on: device) }
    }

    /// Whether the kernel may keep a listing: signal files come and go without its doing.
    private func isListingKept(_ inode: InodeNumber) -> Bool {
        guard features.isExclusive, !pulse.contains(inode), let node = try? nodes.node(inode) else { return false }
        return node.signals?.scope.hasSignals != true && !node.isAliased
    }

    package func readdir(
        _ inode: InodeNumber, _ handle: FileHandle, from offset: off_t, into reply: inout DirectoryReply,
        for request: Request
    ) throws(Errno) {
        try list(inode, handle, from: offset, into: &reply) { (entry, reply) throws(Errno) in
            entry.name.withPointer { name in
                reply.add(
                    FileName(borrowing: name), number: entry.number, mode: entry.kind, nextOffset: entry.nextOffset)
            }
        }
    }

    /// Adds entries to a reply until it has no more room, and sees to it that the next request finds the rest.
    private func list(
        _ inode: InodeNumber, _ handle: FileHandle, from offset: off_t, into reply: inout DirectoryReply,
        _ add: (OpenDirectory.Listed, inout DirectoryReply) throws(Errno) -> Bool
    ) throws(Errno) {
        guard handle == .unopened else {
            let hasEnded = try directories[handle].forEach(from: offset) { (entry) throws(Errno) in
                try add(entry, &reply)
            }
            if hasEnded { reply.end(isKept: isListingKept(inode)) }
            return
        }
        do throws(Errno) {
            try listUnopened(inode, from: offset, into: &reply, add)
        } catch .staleNFSFileHandle, .noSuchFileOrDirectory {
            // It has gone beneath; another directory may have its name by now. Whoever opens that next has it looked up anew.
            ioModes.connection?.invalidateAttributes(of: inode)
            throw .staleNFSFileHandle
        }
    }

    private func listUnopened(
        _ inode: InodeNumber, from offset: off_t, into reply: inout DirectoryReply,
        _ add: (OpenDirectory.Listed, inout DirectoryReply) throws(Errno) -> Bool
    ) throws(Errno) {
        let known = offset > 0 ? listings.find(of: inode, at: offset) : nil
        let directory = if let known { known } else { try listedDirectory(inode) }
        let hasEnded = try directory.forEach(from: offset) { (entry) throws(Errno) in try add(entry, &reply) }
        if let next = reply.nextOffset {
            listings.keep(directory, of: inode, at: next)
        } else if hasEnded {
            listings.end(of: inode)
            reply.end(isKept: isListingKept(inode))
        }
    }

    package func readdirplus(
        _ inode: InodeNumber, _ handle: FileHandle, from offset: off_t, into reply: inout DirectoryReply,
        for request: Request
    ) throws(Errno) {
        try list(inode, handle, from: offset, into: &reply) { (listed, reply) throws(Errno) in
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
        guard case .backing = try inodeKind(inode) else {
            // Of `.pulse`: every document there is, wherever it lies.
            if pulse.isTop(inode), let failure = town.writeback.writeNow(signals.allFiles(backing: [])) {
                throw failure
            }
            return
        }
        let node = try nodes.node(inode)
        // The signal files at and beneath this directory: for the root, that is every document.
        if let signals = node.signals {
            let files = self.signals.allFiles(backing: signals.path)
            if let failure = town.writeback.writeNow(files) { throw failure }
        }
        guard let real = try real(inode, handle) else { return }
        _ = try retryingInterrupts { dataOnly ? fdatasync(real.rawValue) : Glibc.fsync(real.rawValue) }
    }

    /// The real directory of an opening, or one opened for the occasion; nil in `.pulse`.
    func real(_ inode: InodeNumber, _ handle: FileHandle) throws(Errno) -> Descriptor? {
        guard handle == .unopened else { return try directories[handle].real }
        guard case .backing = try inodeKind(inode) else { return nil }
        return try nodes.descriptor(of: inode).reopenedDirectory()
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
            if BackingDocument.isTemporary(bytes, in: scope) || (path.isEmpty && bytes == PulseDirectory.name) {
                return true
            }
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
