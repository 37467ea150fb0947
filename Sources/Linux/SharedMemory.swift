import CLinux
import Glibc
import SystemPackage

/// Memory that several processes map, and that outlives each of them while another has it open.
///
/// Pages take memory from their first write on. Concurrent access is up to the users of a section.
package final class SharedMemory: Sendable {
    /// In bytes.
    package let size: Int
    // because the mapping lives from `init` to `deinit`, and users synchronize their access.
    package nonisolated(unsafe) let base: UnsafeMutableRawPointer
    private let memory: OwnedDescriptor

    /// Creates memory of zeros, close-on-exec.
    ///
    /// EFBIG beyond the limit on file sizes.
    ///
    /// The corresponding C functions are `memfd_create` and `ftruncate`.
    package convenience init(named name: String, size: Int) throws(Errno) {
        let memory = OwnedDescriptor(
            takingOwnershipOf: try retryingInterrupts { memfd_create(name, UInt32(MFD_CLOEXEC)) })
        _ = try retryingInterrupts { ftruncate(memory.rawValue, off_t(size)) }
        try self.init(takingOwnershipOf: memory)
    }

    /// Maps all of the memory that another process has created.
    ///
    /// The corresponding C function is `mmap` with `MAP_SHARED` and `MAP_NORESERVE`.
    package init(takingOwnershipOf memory: consuming OwnedDescriptor) throws(Errno) {
        var status = stat()
        _ = try retryingInterrupts { fstat(memory.rawValue, &status) }
        let size = Int(status.st_size)
        let mapped = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, memory.rawValue, 0)
        guard let mapped, mapped != MAP_FAILED else { throw .current }
        base = mapped
        self.size = size
        self.memory = memory
    }

    deinit {
        munmap(base, size)
    }

    /// To pass the memory to another process; this object closes it.
    package var descriptor: CInt { memory.rawValue }

    /// A section of the memory, by its offset and size in bytes.
    package subscript(offset: Int, size: Int) -> UnsafeMutableRawBufferPointer {
        precondition(offset >= 0 && size >= 0 && size <= self.size - offset, "a section lies in the memory")
        return UnsafeMutableRawBufferPointer(start: base + offset, count: size)
    }

    /// Frees the whole pages of a section, which then reads as zeros.
    ///
    /// The corresponding C function is `fallocate` with `FALLOC_FL_PUNCH_HOLE`.
    package func free(_ offset: Int, _ size: Int) {
        // Without effect if it fails: the memory stays in use.
        fallocate(memory.rawValue, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off_t(offset), off_t(size))
    }
}
