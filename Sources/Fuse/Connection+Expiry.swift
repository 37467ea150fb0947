import CFuse
import CLinux
import SystemPackage

extension Connection {
    /// Makes the kernel look a name up again before it is next used.
    ///
    /// Unlike an invalidation, this leaves alone what is mounted on the name, and directories in which processes work.
    ///
    /// Not to be called from an operation: the kernel locks the directory for it.
    ///
    /// The corresponding message is `FUSE_NOTIFY_INVAL_ENTRY` with `FUSE_EXPIRE_ONLY` (linux/fuse.h since protocol 7.38).
    public func expire(_ name: FileName, in parent: InodeNumber) {
        let body = fuse_notify_inval_entry_out(
            parent: parent.rawValue, namelen: UInt32(name.bytes.count), flags: UInt32(FUSE_EXPIRE_ONLY))
        let size = MemoryLayout<fuse_out_header>.size + MemoryLayout.size(ofValue: body) + name.bytes.count + 1
        let header = fuse_out_header(
            len: UInt32(size), error: Int32(bitPattern: FUSE_NOTIFY_INVAL_ENTRY.rawValue), unique: 0)
        withUnsafeTemporaryAllocation(byteCount: size, alignment: 8) { message in
            message.storeBytes(of: header, as: fuse_out_header.self)
            message.storeBytes(
                of: body, toByteOffset: MemoryLayout<fuse_out_header>.size, as: fuse_notify_inval_entry_out.self)
            let start = size - name.bytes.count - 1
            UnsafeMutableRawBufferPointer(rebasing: message[start...]).copyBytes(from: name.bytes)
            message[size - 1] = 0
            // ENOENT if the kernel has not cached the name.
            _ = send(UnsafeRawBufferPointer(message))
        }
    }
}
