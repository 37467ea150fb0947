import CLinux
import Fuse
import Glibc
import Linux
import Liveness
import SystemPackage

/// The real file beneath a signal file: where its document comes from after a mount and goes to before an unmount.
///
/// It is replaced, never written in place, so that whoever has it open keeps reading one whole document.
struct BackingDocument: ~Copyable {
    let descriptor: OwnedDescriptor
    let status: FileStatus

    /// Opens the real file of a name for reading; nil when there is none, or what is there is no regular file.
    static func open(_ name: NodeName, in directory: CInt) throws(Errno) -> BackingDocument? {
        do throws(Errno) {
            // Without O_NONBLOCK the open of a fifo, put there by a race, would wait for its writer.
            let descriptor = try name.withPointer { (name) throws(Errno) in
                try OwnedDescriptor(opening: name, in: directory, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
            }
            let file = try BackingDocument(descriptor)
            guard file.status.isRegularFile else { return nil }
            return file
        } catch .noSuchFileOrDirectory, .tooManySymbolicLinkLevels {
            return nil
        }
    }

    /// A file that is open for reading.
    init(_ descriptor: consuming OwnedDescriptor) throws(Errno) {
        status = try FileStatus(of: descriptor.rawValue)
        self.descriptor = descriptor
    }

    /// Gives the open descriptor to a new owner.
    consuming func takeDescriptor() -> OwnedDescriptor {
        descriptor
    }

    /// All of it.
    ///
    /// EFBIG when it is larger than a document may be.
    func bytes() throws(Errno) -> [UInt8] {
        guard status.st_size <= Document.maximumSize else { throw .fileTooLarge }
        var failure: Errno?
        let bytes = [UInt8](unsafeUninitializedCapacity: Document.maximumSize) { room, count in
            do throws(Errno) {
                while count < room.count {
                    let got = try retryingInterrupts {
                        pread(descriptor.rawValue, room.baseAddress! + count, room.count - count, off_t(count))
                    }
                    if got == 0 { break }
                    count += got
                }
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        return bytes
    }

    // MARK: Replacing

    /// Whether a file of this name is one with which a document is written down, unfinished or left by a crash.
    static func isTemporary(_ name: [UInt8], in scope: SignalPatterns.Scope) -> Bool {
        name.starts(with: temporaryPrefix) && scope.matches(name.dropFirst(temporaryPrefix.count))
    }

    /// Removes what a crash in a write-down has left in a directory; no listing shows it.
    static func removeTemporaries(in directory: Descriptor, scope: SignalPatterns.Scope) throws(Errno) {
        try DirectoryStream(directory.reopened(O_RDONLY | O_DIRECTORY)).forEach(from: 0) { entry in
            if isTemporary(entry.name.bytes, in: scope) {
                _ = entry.name.withPointer { unlinkat(directory.rawValue, $0, 0) }
            }
            return true
        }
    }

    private static let temporaryPrefix = Array(".pulsefs-".utf8)

    /// Puts a document in the place of a real file, with the mode, owner and time it has as a signal file.
    ///
    /// Another file of that name is replaced in one step, unless it is newer than the document and not of the future:
    /// then somebody went on without pulsefs, and theirs is the truth. With `flags` of `RENAME_NOREPLACE`, EEXIST when
    /// there is one. In a directory that cannot be written to, the real file is overwritten instead.
    ///
    /// - Parameter isDurable: Whether it shall be on the disk when this returns.
    static func replace(
        _ name: NodeName, in directory: CInt, with content: SignalFile.Content, now: WallTime, flags: UInt32 = 0,
        evenIfNewer: Bool = false, isDurable: Bool = false
    ) throws(Errno) {
        // One name for a file, so that what a crash leaves is overwritten the next time.
        let temporary = NodeName(temporaryPrefix + name.bytes.prefix(240))
        let present = try? name.withPointer { (name) throws(Errno) in try FileStatus(of: name, in: directory) }
        if !evenIfNewer, let present {
            let modified = WallTime(present.st_mtim)
            if modified > content.modified, modified <= now {
                _ = temporary.withPointer { unlinkat(directory, $0, 0) }
                return
            }
        }
        try temporary.withPointer { (temporary) throws(Errno) in
            do throws(Errno) {
                _ = unlinkat(directory, temporary, 0)
                let file: OwnedDescriptor
                do throws(Errno) {
                    file = try OwnedDescriptor(
                        opening: temporary, in: directory, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o600)
                } catch .permissionDenied where present?.isRegularFile == true {
                    return try overwrite(name, in: directory, with: content, isDurable: isDurable)
                }
                try write(content, to: file.rawValue, isDurable: isDurable)
                try name.withPointer { (name) throws(Errno) in
                    _ = try retryingInterrupts {
                        clinux_renameat2(directory, temporary, directory, name, flags)
                    }
                }
                if isDurable { try synchronize(directory) }
            } catch {
                _ = unlinkat(directory, temporary, 0)
                throw error
            }
        }
    }

    /// Has the names in a directory on the disk, as fsync(2) of a file alone does not.
    private static func synchronize(_ directory: CInt) throws(Errno) {
        let opened = try OwnedDescriptor(opening: ".", in: directory, O_RDONLY | O_DIRECTORY)
        _ = try retryingInterrupts { fsync(opened.rawValue) }
    }

    private static func overwrite(
        _ name: NodeName, in directory: CInt, with content: SignalFile.Content, isDurable: Bool
    ) throws(Errno) {
        let file = try name.withPointer { (name) throws(Errno) in
            try OwnedDescriptor(opening: name, in: directory, O_WRONLY | O_TRUNC | O_NOFOLLOW | O_NONBLOCK)
        }
        try write(content, to: file.rawValue, isDurable: isDurable)
    }

    private static func write(_ content: SignalFile.Content, to file: CInt, isDurable: Bool) throws(Errno) {
        var done = 0
        let bytes = content.document.bytes
        while done < bytes.count {
            done += try retryingInterrupts {
                bytes[done...].withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
            }
        }
        let ownership = content.ownership
        // Only root may give a file away; for anybody else it already is theirs, or stays theirs.
        _ = fchown(file, ownership.user, ownership.group)
        _ = try retryingInterrupts { fchmod(file, ownership.mode & 0o7777) }
        let times = [content.modified.timespec, content.modified.timespec]
        _ = try retryingInterrupts { futimens(file, times) }
        if isDurable { _ = try retryingInterrupts { fsync(file) } }
    }
}
