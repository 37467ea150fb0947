#ifndef PULSEFS_CSYSTEMCALL_H
#define PULSEFS_CSYSTEMCALL_H

// System calls as the kernel has them, for the parity tests: glibc's wrappers change ids for all threads, and Swift
// imports nothing that is variadic.

#include <errno.h>
#include <linux/capability.h>
#include <linux/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

// syscall(2): what the kernel returned, or the negated errno. All six arguments are passed, whatever the call needs.
static inline long csystemcall(long number, long a, long b, long c, long d, long e, long f) {
    long result = syscall(number, a, b, c, d, e, f);
    return result == -1 ? -(long)errno : result;
}

// errno(3), by name, as "ENOENT"; null for a number that has none. Hidden behind _GNU_SOURCE.
extern const char *strerrorname_np(int number);

// ioctl(2): <linux/fs.h> makes these with sizeof, which Swift does not import.
static const unsigned long csystemcall_fs_ioc_getflags = 0x80086601;
static const unsigned long csystemcall_fs_ioc_setflags = 0x40086602;
static const unsigned long csystemcall_ficlone = 0x40049409;

#endif
