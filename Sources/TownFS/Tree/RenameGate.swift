import Glibc

/// Keeps renames, and searches for what one of them may be moving, apart.
///
/// Between the system call that renames a file and the note of it in the node store, the file is not where the store says.
/// Any number of renames go on at a time; a search that has missed waits until there is none, and holds up new ones for
/// as long as it looks again.
///
/// Held over system calls, unlike any other lock here, as it is about what the tree beneath is. Nobody who holds it takes
/// it a second time: a rename must not search.
///
/// The corresponding C type is `pthread_rwlock_t`.
final class RenameGate: Sendable {
    // because the lock is made in `init`, destroyed in `deinit`, and made for being shared.
    private nonisolated(unsafe) let lock: UnsafeMutablePointer<pthread_rwlock_t>

    init() {
        lock = .allocate(capacity: 1)
        var attributes = pthread_rwlockattr_t()
        pthread_rwlockattr_init(&attributes)
        // Else renames that overlap would keep a search waiting for ever.
        pthread_rwlockattr_setkind_np(&attributes, CInt(PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP))
        // Fails only for a lack of memory.
        precondition(pthread_rwlock_init(lock, &attributes) == 0)
        pthread_rwlockattr_destroy(&attributes)
    }

    deinit {
        pthread_rwlock_destroy(lock)
        lock.deallocate()
    }

    func whileRenaming<Result, Failure: Error>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
        pthread_rwlock_rdlock(lock)
        defer { pthread_rwlock_unlock(lock) }
        return try body()
    }

    func withoutRenames<Result, Failure: Error>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
        pthread_rwlock_wrlock(lock)
        defer { pthread_rwlock_unlock(lock) }
        return try body()
    }
}
