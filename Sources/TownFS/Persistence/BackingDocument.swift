import CLinux
import Fuse
import Glibc
import Linux
import Liveness
import SystemPackage

/// The backing file of a signal file: its document before the first touch, and the target of write-back.
///
/// It is replaced, not written in place, so that a process that has it open keeps reading one whole document.
struct BackingDocument: ~Copyable {
    let descriptor: OwnedDescriptor
    let status: FileStatus

    /// Opens a backing file for reading; nil if there is none or it is not a regular file.
    static func open(_ name: NodeName, in directory: CInt) throws(Errno) -> BackingDocument? {
        do throws(Errno) {
            let file = try BackingDocument(name.open(in: directory, O_RDONLY))
            guard file.status.isRegularFile else { return nil }
            return file
        } catch .noSuchFileOrDirectory, .tooManySymbolicLinkLevels {
            return nil
        }
    }

    /// Takes a descriptor that is open for reading.
    init(_ descriptor: consuming OwnedDescriptor) throws(Errno) {
        status = try FileStatus(of: descriptor.rawValue)
        self.descriptor = descriptor
    }

    /// Transfers the open descriptor.
    consuming func releaseDescriptor() -> OwnedDescriptor {
        descriptor
    }

    /// The content; EFBIG if it is larger than `Document.maximumSize`.
    func bytes() throws(Errno) -> [UInt8] {
        guard status.st_size <= Document.maximumSize else { throw .fileTooLarge }
        return try Self.bytes(of: descriptor.rawValue, atMost: Document.maximumSize)
    }

    /// The first bytes of an open file.
    static func bytes(of file: CInt, atMost limit: Int) throws(Errno) -> [UInt8] {
        var failure: Errno?
        let bytes = [UInt8](unsafeUninitializedCapacity: limit) { room, count in
            do throws(Errno) {
                while count < room.count {
                    let got = try retryingInterrupts {
                        // because the buffer is not empty.
                        pread(file, room.baseAddress! + count, room.count - count, off_t(count))
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

    // MARK: Temporary files

    private static let temporaryPrefix = Array(".pulsefs-".utf8)

    private static func makeTemporaryName() -> NodeName {
        let digits = String(UInt64.random(in: .min ... .max), radix: 16)
        return NodeName(temporaryPrefix + String(repeating: "0", count: 16 - digits.utf8.count).utf8 + digits.utf8)
    }

    /// Whether a name in a directory is that of a temporary file: one in use, or one that a crash left behind.
    ///
    /// `.pulsefs-` and 16 hexadecimal digits. Earlier versions had the signal file's name in place of the digits.
    ///
    /// - Parameter scope: Nil if only the directory is known; names of earlier versions then do not count.
    static func isTemporary(_ name: some Collection<UInt8>, in scope: SignalPatterns.Scope?) -> Bool {
        guard scope?.hasSignals != false, name.starts(with: temporaryPrefix) else { return false }
        let rest = name.dropFirst(temporaryPrefix.count)
        return rest.count == 16 && rest.allSatisfy { "0123456789abcdef".utf8.contains($0) }
            || scope?.matches(rest) == true
    }

    /// Removes the temporary files that a crash left in a directory of signal files.
    ///
    /// - Parameter scope: As for `isTemporary`.
    static func removeTemporaries(in directory: Descriptor, scope: SignalPatterns.Scope?) throws(Errno) {
        try DirectoryStream(directory.reopened(O_RDONLY | O_DIRECTORY)).forEach(from: 0) { entry in
            if isTemporary(entry.name.bytes, in: scope) { try? entry.name.unlink(in: directory.rawValue) }
            return true
        }
    }

    // MARK: Replacing

    /// Replaces a backing file by a document, with the mode, owner and modification time of the signal file.
    ///
    /// The document is written to a temporary file, which is renamed over the backing file. Any number of threads and
    /// processes may do that at once. A backing file that is newer than the document, and not of the future, stays:
    /// something changed it past pulsefs. The one that the document follows (`Content.backingTime`) is not newer,
    /// whatever the clock says. If the directory cannot be written to, the backing file is overwritten.
    ///
    /// - Parameters:
    ///   - flags: Of renameat2(2). With `RENAME_NOREPLACE`, EEXIST if the name is in use.
    ///   - isSynced: Returns only when the file and its name are on disk.
    ///   - staging: The directory for the temporary file, on the same file system; nil for the file's own.
    /// - Returns: `st_mtim` of the file; nil if a newer one was left alone.
    @discardableResult
    static func replace(
        _ name: NodeName, in directory: CInt, with content: SignalFile.Content, now: WallTime, flags: UInt32 = 0,
        evenIfNewer: Bool = false, isSynced: Bool = false, staging: CInt? = nil
    ) throws(Errno) -> WallTime? {
        let present = try? name.status(in: directory)
        if !evenIfNewer, let present {
            let modified = WallTime(present.st_mtim)
            if modified != content.backingTime, modified > content.modified, modified <= now { return nil }
        }
        var attempts = 3
        while true {
            attempts -= 1
            do throws(Errno) {
                let temporary = makeTemporaryName()
                let file: OwnedDescriptor
                do throws(Errno) {
                    file = try temporary.open(in: staging ?? directory, O_WRONLY | O_CREAT | O_EXCL, mode: 0o600)
                } catch .permissionDenied where staging == nil && present?.isRegularFile == true {
                    let file = try name.open(in: directory, O_WRONLY | O_TRUNC)
                    return try write(content, to: file.rawValue, isSynced: isSynced)
                }
                do throws(Errno) {
                    let written = try write(content, to: file.rawValue, isSynced: isSynced)
                    try rename(temporary, in: staging ?? directory, to: name, in: directory, flags)
                    if isSynced { try synchronize(directory) }
                    return written
                } catch {
                    try? temporary.unlink(in: staging ?? directory)
                    throw error
                }
            } catch .noSuchFileOrDirectory where attempts > 0 {
                // Another mount of this directory has just started and removed the temporary file.
            } catch .fileExists where attempts > 0 && flags & UInt32(RENAME_NOREPLACE) == 0 {
                // The temporary name is in use.
            }
        }
    }

    private static func rename(
        _ name: NodeName, in directory: CInt, to newName: NodeName, in newDirectory: CInt, _ flags: UInt32
    ) throws(Errno) {
        try name.withPointer { (name) throws(Errno) in
            try newName.withPointer { (newName) throws(Errno) in
                _ = try retryingInterrupts { clinux_renameat2(directory, name, newDirectory, newName, flags) }
            }
        }
    }

    /// Writes a directory's names to disk, which fsync(2) of a file does not do.
    private static func synchronize(_ directory: CInt) throws(Errno) {
        let opened = try OwnedDescriptor(opening: ".", in: directory, O_RDONLY | O_DIRECTORY)
        _ = try retryingInterrupts { fsync(opened.rawValue) }
    }

    /// Returns `st_mtim` of the file, which may be coarser than what was set.
    private static func write(_ content: SignalFile.Content, to file: CInt, isSynced: Bool) throws(Errno) -> WallTime {
        var done = 0
        let bytes = content.document.bytes
        while done < bytes.count {
            done += try retryingInterrupts {
                bytes[done...].withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
            }
        }
        let ownership = content.ownership
        // Only root may change the owner. Without that right, the file stays the daemon's.
        _ = fchown(file, ownership.user, ownership.group)
        _ = try retryingInterrupts { fchmod(file, ownership.mode & 0o7777) }
        let times = [content.modified.timespec, content.modified.timespec]
        _ = try retryingInterrupts { futimens(file, times) }
        if isSynced { _ = try retryingInterrupts { fsync(file) } }
        return WallTime(try FileStatus(of: file).st_mtim)
    }
}
