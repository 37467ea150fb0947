import Fuse
import Glibc
import Linux
import Liveness
import SystemPackage

/// Root processes in the log, one for each runtime.
extension Journal {
    /// Saves which process is watched for a runtime.
    ///
    /// It stays until it is replaced or removed: if the process has ended meanwhile, a successor notices that.
    ///
    /// - Parameter isNamed: Whether the runtime's document names it.
    func saveRoot(_ process: RootProcesses.Process, of runtime: RuntimeID, isNamed: Bool) {
        var entries = EntryBuffer()
        entries.begin(Kind.rootProcesses)
        entries.put(runtime.description)
        entries.endKey()
        entries.put(process.pid)
        entries.put(process.startTime)
        entries.put(isNamed ? 1 : 0 as UInt8)
        entries.put(process.program)
        entries.end()
        _ = append(entries)
    }

    func removeRoot(of runtime: RuntimeID) {
        log.remove(Kind.rootProcesses, key: Array(runtime.description.utf8))
    }

    var roots: [(runtime: RuntimeID, process: RootProcesses.Process, isNamed: Bool)] {
        var roots: [(runtime: RuntimeID, process: RootProcesses.Process, isNamed: Bool)] = []
        log.forEach(Kind.rootProcesses) { key, value in
            guard let value else { return }
            var reader = ByteReader(value)
            guard let pid = try? reader.number(pid_t.self), let startTime = try? reader.number(UInt64.self),
                let isNamed = try? reader.number(UInt8.self)
            else { return }
            let program = String(decoding: reader.rest, as: UTF8.self)
            let process = RootProcesses.Process(pid: pid, startTime: startTime, program: program)
            roots.append((RuntimeID(validated: key), process, isNamed == 1))
        }
        return roots
    }
}

extension SignalDirectory {
    /// Restores the signal files that an earlier worker has left in the town, of which this is the root.
    ///
    /// Dirty ones are scheduled for write-back. An unlink that was interrupted is completed, so that the kernel's
    /// repeated request finds no file.
    func restore(from journal: Journal, of town: Town) {
        var parents: Set<[UInt8]> = []
        for (path, event) in journal.replay() {
            let (parent, name) = path.parentAndName
            // The patterns may have changed. The keeper will write it back.
            guard let directory = descendant(parent), directory.scope.matches(name.bytes) else { continue }
            switch event {
            case .content(let content):
                parents.insert(parent)
                let file = directory.file(name)
                file.restore(content, isDirty: true)
                file.scheduleWriteback(isJournaled: true)
            case .written(let content): directory.file(name).restore(content, isDirty: false)
            case .unlinked: directory.file(name).completeRemoval()
            case .clean: break
            }
        }
        // The directory may hang.
        _ = try? Thread(named: "temporaries") { [parents] in
            for parent in parents { self.removeTemporaries(in: parent, of: town) }
        }
    }

    /// The worker may have died between creating a temporary file and renaming it.
    private func removeTemporaries(in path: [UInt8], of town: Town) {
        do throws(Errno) {
            try BackingDocument.removeTemporaries(in: town.backing.directory(at: path), scope: nil)
        } catch .noSuchFileOrDirectory {
        } catch {
            town.log.warning("cannot remove temporary files in \(String(printable: path)): \(error)")
        }
    }
}

extension SignalFile {
    /// Restores the content that an earlier worker has committed.
    fileprivate func restore(_ content: Content, isDirty: Bool) {
        let now = town.now.instant
        state.withLock { state in
            state.presence = .committed(content)
            state.revision = 1
            state.clean = isDirty ? 0 : 1
            // It is not known what the kernel caches, and which threads are writing.
            state.caching.sendValid(of: nil, for: Self.attributeTimeout, at: now)
            state.caching.recordChange(by: 0, at: now)
        }
    }

    fileprivate func completeRemoval() {
        do throws(Errno) {
            try town.backing.withDirectory(at: directory.path) { (parent) throws(Errno) in
                // Another type of file may have the name by now.
                if try name.status(in: parent)?.isRegularFile == true { try name.unlink(in: parent) }
            }
            town.liveness.forget(signal: path)
            if let owner { town.liveness.forget(owner) }
        } catch .noSuchFileOrDirectory {
        } catch {
            town.log.error("cannot remove \(String(printable: path)): \(error)")
        }
        _ = town.journal.append(.clean, at: path)
    }

    /// Whether a request has touched the file, which was interrupted and is repeated.
    ///
    /// Another one may have touched it since.
    func wasTouched(by request: Request) -> Bool {
        guard request.unique != 0 else { return false }
        return state.withLock { $0.presence.content?.request == request.unique }
            || town.liveness.hasTouch(of: path, by: request.unique)
    }
}
