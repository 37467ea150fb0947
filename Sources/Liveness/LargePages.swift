import Glibc
import Synchronization

/// Memory for what grows to many megabytes and is read here and there: in pages of 2 MB where the kernel has such.
///
/// A read that misses the processor's caches costs a third more when it misses the table of 4 KB pages, too. Whether there
/// are larger pages is up to `/sys/kernel/mm/transparent_hugepage/enabled`; unless that is `never`, they are to be had for
/// the asking. Without them all works the same. The first write to a piece takes the kernel some 0.4 ms in a virtual
/// machine: that is one in some ten thousands of touches that make a record.
///
/// The corresponding system calls are `mmap` and `madvise`.
package struct LargePages: @unchecked Sendable {
    // because an address may be known to anybody; what lies there is its owner's.

    /// Of one piece, in bytes.
    static let size = 2 << 20

    private static let taken = Atomic(0)
    /// What this process has of it, in bytes; malloc knows nothing of it.
    package static var bytes: Int { taken.load(ordering: .relaxed) }

    let address: UnsafeMutableRawPointer

    /// Takes one piece, aligned to its size and holding zeros; nil when there is no memory.
    init?() {
        // Twice as much has such a piece in it. Nothing is there before it is written to.
        let flags = MAP_PRIVATE | MAP_ANONYMOUS
        guard let start = mmap(nil, 2 * Self.size, PROT_READ | PROT_WRITE, flags, -1, 0), start != MAP_FAILED else {
            return nil
        }
        let before = (Self.size - Int(bitPattern: start) % Self.size) % Self.size
        address = start + before
        if before > 0 { munmap(start, before) }
        munmap(address + Self.size, Self.size - before)
        // A refusal is none of our business.
        _ = madvise(address, Self.size, MADV_HUGEPAGE)
        Self.taken.add(Self.size, ordering: .relaxed)
    }

    /// Gives it back; nothing in it may be used any more.
    func free() {
        munmap(address, Self.size)
        Self.taken.subtract(Self.size, ordering: .relaxed)
    }
}
