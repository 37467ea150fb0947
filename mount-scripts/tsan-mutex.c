// Tells the thread sanitizer about contended locks of Synchronization.Mutex.
//
// The fast paths of lock and unlock are compiled into the caller, where the sanitizer sees their atomics. The slow
// paths are inside libswiftSynchronization and end in futex(2), which it does not see, so it reports a contended lock as
// a race on the guarded data. These functions replace the slow paths (LD_PRELOAD), call them, and report an acquire or a
// release. Only Swift's own clang knows the calling convention.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>

#define LOCK_SLOW "$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF"
#define UNLOCK_SLOW "$s15Synchronization12_MutexHandleV11_unlockSlowyyF"

// Weak, because the compiler and the package manager load this library, too, and contain no sanitizer.
extern void __tsan_acquire(void *address) __attribute__((weak));
extern void __tsan_release(void *address) __attribute__((weak));

typedef __attribute__((swiftcall)) void lock_slow(uint32_t thread, __attribute__((swift_context)) void *mutex);
typedef __attribute__((swiftcall)) void unlock_slow(__attribute__((swift_context)) void *mutex);

lock_slow contended_lock __asm__(LOCK_SLOW);
unlock_slow contended_unlock __asm__(UNLOCK_SLOW);

static lock_slow *next_lock;
static unlock_slow *next_unlock;

__attribute__((constructor)) static void find_next(void) {
    next_lock = (lock_slow *)dlsym(RTLD_NEXT, LOCK_SLOW);
    next_unlock = (unlock_slow *)dlsym(RTLD_NEXT, UNLOCK_SLOW);
}

__attribute__((swiftcall)) void contended_lock(uint32_t thread, __attribute__((swift_context)) void *mutex) {
    next_lock(thread, mutex);
    if (__tsan_acquire) __tsan_acquire(mutex);
}

__attribute__((swiftcall)) void contended_unlock(__attribute__((swift_context)) void *mutex) {
    if (__tsan_release) __tsan_release(mutex);
    next_unlock(mutex);
}
