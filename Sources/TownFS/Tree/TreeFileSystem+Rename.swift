import CLinux
import Fuse
import Glibc
import Linux
import Liveness
import SystemPackage

extension TreeFileSystem {
    package func rename(
        _ name: FileName, in parent: InodeNumber, to newName: FileName, in newParent: InodeNumber, flags: UInt32,
        for request: Request
    ) throws(Errno) {
        let source = try NameAt(name, directory(parent))
        let target = try NameAt(newName, directory(newParent))
        try refuseTemporary(newName, in: target.directory)
        switch (try nameKind(of: name, in: source.directory), try nameKind(of: newName, in: target.directory)) {
        case (.backing, .backing):
            town.processes.recordActivity(request)
            try renameBacking(source, target, flags, for: request)
        case (.backing, .signal) where try canOnlyBeBacking(source, target, for: request):
            town.processes.recordActivity(request)
            try renameBacking(source, target, flags, for: request)
        case (_, .signal(let signals)):
            // An exchange and a whiteout are no touch.
            guard flags & ~UInt32(RENAME_NOREPLACE) == 0 else { throw .invalidArgument }
            try unlessDone(request) { () throws(Errno) in
                try renameOntoSignal(source, target, signals, flags, for: request)
            }
        case (.signal(let signals), .backing):
            guard flags & ~UInt32(RENAME_NOREPLACE) == 0 else { throw .invalidArgument }
            try unlessDone(request) { () throws(Errno) in
                try renameAway(signals.file(source.nodeName), source, target, flags, for: request)
            }
        }
    }

    /// Whether the target stays no signal file: the source is no regular file, and the target does not exist.
    private func canOnlyBeBacking(
        _ source: NameAt, _ target: NameAt, for request: Request
    ) throws(Errno) -> Bool {
        do throws(Errno) {
            guard try !source.status().isRegularFile else { return false }
        } catch .noSuchFileOrDirectory where request.isRepeated {
            // It has moved already.
            return (try? target.status())?.isRegularFile == false
        }
        do throws(Errno) {
            try refuseSignal(target.name, in: target.directory, for: request)
            return true
        } catch .fileExists {
            return false
        }
    }

    /// A name and the directory it is in.
    private struct NameAt {
        let name: FileName
        let nodeName: NodeName
        let directory: Directory
        let descriptor: Descriptor

        init(_ name: FileName, _ directory: Directory) throws(Errno) {
            descriptor = try directory.descriptor
            self.name = name
            nodeName = NodeName(name)
            self.directory = directory
        }

        func status() throws(Errno) -> ExtendedStatus {
            try ExtendedStatus(of: name.pointer, in: descriptor.rawValue)
        }
    }

    private func renameBacking(
        _ source: NameAt, _ target: NameAt, _ flags: UInt32, for request: Request
    ) throws(Errno) {
        let isExchange = flags & UInt32(RENAME_EXCHANGE) != 0
        if request.isRepeated, try hasBeenRenamed(source, target, isExchange: isExchange) {
            return try recordRename(source, target, isExchange: isExchange, for: request)
        }
        let moved = try source.status()
        let replaced = try? target.status()
        // The directory takes its backing files along: documents must be in them.
        let movedSignals = moved.isDirectory ? source.directory.signals?.child(source.nodeName) : nil
        if let movedSignals { try writeback(backing: movedSignals) }
        let replacedSignals =
            replaced?.isDirectory == true ? target.directory.signals?.child(target.nodeName) : nil
        if let replacedSignals {
            if isExchange {
                try writeback(backing: replacedSignals)
            } else {
                try emptyBackingDirectory(replacedSignals, target.name, in: target.directory)
            }
        }
        func rename() throws(Errno) {
            try Credentials.withUser(request.callingUser) { () throws(Errno) in
                _ = try retryingInterrupts {
                    clinux_renameat2(
                        source.descriptor.rawValue, source.name.pointer,
                        target.descriptor.rawValue, target.name.pointer, flags)
                }
            }
        }
        let hasMoved = try nodes.renames.whileRenaming(
            moved.identity, exchanging: isExchange ? replaced?.identity : nil
        ) { () throws(Errno) in
            if isExchange {
                try rename()
            } else {
                try pinning(target.name, in: target.directory.inode, target.descriptor, rename)
            }
            // Both names were of one file: rename(2) did nothing.
            if let replaced, replaced.identity == moved.identity { return false }
            if let movedSignals { leave(movedSignals, for: target) }
            if let replacedSignals { leave(replacedSignals, for: source) }
            move(moved, to: target)
            if isExchange, let replaced { move(replaced, to: source) }
            return true
        }
        guard hasMoved else { return }
        updateSignals(moved, from: movedSignals, to: target, for: request)
        if isExchange, let replaced { updateSignals(replaced, from: replacedSignals, to: source, for: request) }
    }

    /// Whether the process that served the request before has renamed, and not recorded that.
    private func hasBeenRenamed(_ source: NameAt, _ target: NameAt, isExchange: Bool) throws(Errno) -> Bool {
        guard isExchange else {
            do throws(Errno) {
                _ = try source.status()
                return false
            } catch .noSuchFileOrDirectory {
                return true
            }
        }
        let identity = try source.status().identity
        return nodes.place(of: identity).map { $0 == (target.directory.inode, target.nodeName) } ?? false
    }

    /// Records a rename that has happened.
    private func recordRename(
        _ source: NameAt, _ target: NameAt, isExchange: Bool, for request: Request
    ) throws(Errno) {
        func record(from source: NameAt, to target: NameAt) throws(Errno) {
            let moved = try target.status()
            let signals = moved.isDirectory ? source.directory.signals?.knownChild(source.nodeName) : nil
            if let signals { leave(signals, for: target) }
            move(moved, to: target)
            updateSignals(moved, from: signals, to: target, for: request)
        }
        try record(from: source, to: target)
        if isExchange { try record(from: target, to: source) }
    }

    /// Ends the signal files in a directory that has moved to `place`, and below it.
    private func leave(_ left: SignalDirectory, for place: NameAt) {
        for (file, content) in left.detachSubtree() {
            // Touched during the rename. If it cannot be written, the touch came too late.
            let path = place.nodeName.bytes + file.directory.path.dropFirst(left.path.count)
            try? place.descriptor.withDirectory(at: path) { (real) throws(Errno) in
                try BackingDocument.replace(file.name, in: real, with: content, now: town.now.wall, evenIfNewer: true)
            }
        }
    }

    /// Updates the node store after a rename.
    private func move(_ moved: ExtendedStatus, to place: NameAt) {
        let lower = moved.isDirectory ? place.directory.signals?.child(place.nodeName) : nil
        nodes.move(moved.identity, to: place.nodeName, in: place.directory.inode, signals: lower)
    }

    /// Decides which files under a directory that has moved are signal files.
    ///
    /// Costs nothing if there can be none, neither where the directory was (`former`) nor where it is.
    private func updateSignals(
        _ moved: ExtendedStatus, from former: SignalDirectory?, to target: NameAt, for request: Request
    ) {
        guard moved.isDirectory, let inode = nodes.inode(of: moved.identity) else { return }
        let current = target.directory.signals?.child(target.nodeName)
        guard former != nil || current != nil else { return }
        let (movedEntries, directories) = nodes.updateSignals(under: inode)
        for moved in movedEntries { resolve(moved, for: request) }
        let isChanged = (former?.scope.hasSignals == true) != (current?.scope.hasSignals == true)
        dropListings(of: directories + (isChanged ? [inode] : []))
    }

    /// Makes the kernel drop cached listings of directories where signal files can lie now, or could before.
    ///
    /// The notification waits for requests in progress on such a directory, so a request thread must not send it.
    private func dropListings(of directories: [InodeNumber]) {
        guard !directories.isEmpty, let connection = ioModes.connection else { return }
        // Without a thread, cached listings stay until a name in the directory changes.
        _ = try? Thread(named: "listings") {
            for directory in directories { connection.invalidatePages(of: directory) }
        }
    }

    /// Makes an inode, which the kernel keeps using, what its name means at the new path of its directory.
    private func resolve(_ moved: NodeStore.MovedEntry, for request: Request) {
        guard let parent = try? nodes.descriptor(of: moved.parent) else { return }
        let real = try? moved.name.status(in: parent.rawValue)
        // A document that could not be written back is missing.
        guard let real, real.isRegularFile else { return }
        if let signals = moved.signals, signals.scope.matches(moved.name.bytes) {
            guard let file = try? signals.withFile(moved.name, { $0 }) else { return }
            nodes.assign(moved.inode, to: file, named: moved.name, in: moved.parent)
            for (opened, handle) in signalFiles(of: moved.inode) {
                opened.replaceFile(with: file.adopt(handle, in: .open(parent)))
            }
            if let content = try? content(ofBacking: moved.name, in: parent) {
                adoptOpenings(of: moved.inode, by: file, content, for: request, in: .open(parent))
            }
        } else {
            nodes.assign(moved.inode, to: real.identity, named: moved.name, in: moved.parent)
            releaseHandles(of: moved.inode)
        }
        ioModes.connection?.invalidateAttributes(of: moved.inode)
    }

    func signalFiles(of inode: InodeNumber) -> [(OpenHandle, SignalOpenFile)] {
        files.all.compactMap { opened in
            guard opened.inode == inode, let file = opened.file as? SignalOpenFile else { return nil }
            return (opened, file)
        }
    }

    /// Gives processes that have a signal file open the ordinary file that it has become.
    private func releaseHandles(of inode: InodeNumber) {
        for (opened, handle) in signalFiles(of: inode) {
            // If it cannot be opened, they keep the unlinked signal file.
            guard let file = try? nodes.descriptor(of: inode).reopened(handle.isWritable ? O_RDWR : O_RDONLY) else {
                continue
            }
            if let draft = handle.uncommitted {
                ftruncate(file.rawValue, 0)
                _ = draft.withUnsafeBytes { pwrite(file.rawValue, $0.baseAddress, $0.count, 0) }
            }
            opened.replaceFile(
                with: BackingFile(file, flags: handle.isWritable ? O_RDWR : O_RDONLY, user: 0, in: backingContext))
            handle.close()
        }
    }

    private func writeback(backing top: SignalDirectory) throws(Errno) {
        if let failure = town.writeback.writeNow(top.subtree.flatMap(\.knownFiles)) { throw failure }
    }

    /// Commits a file that is renamed over a signal file as its new document, and gives the signal file its inode.
    ///
    /// Removing the source is the last step: a repeated request that finds no source has nothing left to do.
    private func renameOntoSignal(
        _ source: NameAt, _ target: NameAt, _ targetSignals: SignalDirectory, _ flags: UInt32,
        for request: Request
    ) throws(Errno) {
        let content: SignalFile.Content
        let sourceFile: SignalFile?
        if case .signal(let signals) = try nameKind(of: source.name, in: source.directory) {
            let other = signals.file(source.nodeName)
            content = try other.currentContent(in: source.directory.location)
            sourceFile = other
        } else {
            do throws(Errno) {
                content = try self.content(ofBacking: source)
            } catch .fileTooLarge {
                throw targetSignals.file(target.nodeName).refuse(.tooLarge, by: request)
            }
            sourceFile = nil
        }
        guard sourceFile == nil || sourceFile !== targetSignals.known(target.nodeName) else { return }
        if flags & UInt32(RENAME_NOREPLACE) != 0, !request.isRepeated {
            try refuseSignal(target.name, in: target.directory, for: request)
        }

        let moved = sourceFile == nil ? try source.status().identity : nil
        let inode = moved.flatMap { nodes.inode(of: $0) } ?? sourceFile.flatMap { nodes.inode(of: $0) }
        let file = try targetSignals.withFile(target.nodeName) { (file) throws(Errno) -> SignalFile? in
            let isOther = file.needsSuccessor(for: content.ownership, in: target.directory.location)
            let successor = isOther ? SignalFile(name: file.name, in: targetSignals, town: town) : nil
            let isCommitted = try file.commit(
                content.document.bytes, modified: content.modified, source: .renamed, by: request,
                as: file.attributedCaller(request.thread),
                in: target.directory.location, replacement: content.ownership, successor: successor)
            guard isCommitted else { return nil }
            guard let successor else { return file }
            nodes.detach(file)
            return successor
        }
        if let inode {
            adoptOpenings(of: inode, by: file, content, for: request, in: target.directory.location)
            nodes.assign(inode, to: file, named: target.nodeName, in: target.directory.inode)
            ioModes.connection?.invalidateAttributes(of: inode)
        }
        if let sourceFile {
            try sourceFile.remove(in: source.directory.location)
        } else {
            _ = try retryingInterrupts { unlinkat(source.descriptor.rawValue, source.name.pointer, 0) }
        }
    }

    /// Gives processes that have an ordinary file open the signal file that it has become.
    private func adoptOpenings(
        of inode: InodeNumber, by file: SignalFile, _ content: SignalFile.Content, for request: Request,
        in parent: ParentDirectory
    ) {
        for opened in files.all where opened.inode == inode {
            guard opened.file is BackingFile else { continue }
            opened.replaceFile(
                with: file.adopt(content, on: inode, by: request, in: parent), leaving: content.document.bytes)
        }
    }

    /// The content of an ordinary file that is about to become a signal file's; EINVAL if it is no document.
    private func content(ofBacking source: NameAt) throws(Errno) -> SignalFile.Content {
        do throws(Errno) {
            return try content(ofBacking: source.nodeName, in: source.descriptor)
        } catch .invalidArgument {
            throw try source.status().isDirectory ? .notDirectory : .invalidArgument
        }
    }

    private func content(ofBacking name: NodeName, in directory: Descriptor) throws(Errno) -> SignalFile.Content {
        guard let file = try BackingDocument.open(name, in: directory.rawValue) else { throw .invalidArgument }
        let status = file.status
        // The inode becomes the signal file's, with all its names.
        guard status.st_nlink == 1 else { throw .notPermitted }
        return SignalFile.Content(
            document: Document(try file.bytes()), modified: WallTime(status.st_mtim),
            changed: WallTime(status.st_ctim),
            ownership: .init(status), deadline: town.now.instant)
    }

    /// Renames a signal file to an ordinary name: writes the document to that name and removes the signal file.
    ///
    /// A successor that finds no signal file opens its handles as those of the ordinary file.
    private func renameAway(
        _ file: SignalFile, _ source: NameAt, _ target: NameAt, _ flags: UInt32, for request: Request
    ) throws(Errno) {
        let content = try file.currentContent(in: source.directory.location)
        let inode = nodes.inode(of: file)
        // Without an inode, the process that served a repeated request before has done this.
        if inode != nil || !request.isRepeated {
            // It may also have made the target.
            let flags = request.isRepeated ? flags & ~UInt32(RENAME_NOREPLACE) : flags
            if let replaced = try? target.status() {
                guard flags & UInt32(RENAME_NOREPLACE) == 0 else { throw .fileExists }
                guard !replaced.isDirectory else { throw .isDirectory }
            }
            try pinning(target.name, in: target.directory.inode, target.descriptor) { () throws(Errno) in
                try BackingDocument.replace(
                    target.nodeName, in: target.descriptor.rawValue, with: content,
                    now: town.now.wall, flags: flags, evenIfNewer: true, staging: source.descriptor.rawValue)
            }
        }
        if let inode {
            nodes.assign(
                inode, to: try target.status().identity, named: target.nodeName, in: target.directory.inode)
        }
        try file.remove(in: source.directory.location)
        if let inode {
            releaseHandles(of: inode)
            ioModes.connection?.invalidateAttributes(of: inode)
        }
    }
}
