#ifndef PULSEFS_CLINUX_H
#define PULSEFS_CLINUX_H

// Linux interfaces that Swift's Glibc module leaves out: it is built without _GNU_SOURCE, and skips some headers.
// fd_set has another member name under _GNU_SOURCE, and the compiler refuses two modules that disagree about a type: it
// is read first, as the Glibc module reads it, and the feature macros are worked out anew.
#include <sys/select.h>
#undef _FEATURES_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <features.h>

#include <dirent.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <malloc.h>
#include <sched.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/fsuid.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <linux/openat2.h>
#include <sys/sysmacros.h>
#include <sys/timerfd.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/fuse.h>
#include <linux/securebits.h>

// renameat2(2): declared in <stdio.h>, which Glibc has already built without _GNU_SOURCE. RENAME_* come from <linux/fs.h>.
static inline int clinux_renameat2(int from_directory, const char *from, int to_directory, const char *to,
                                   unsigned int flags) {
    return (int)syscall(SYS_renameat2, from_directory, from, to_directory, to, flags);
}

// pidfd_open(2): no wrapper before glibc 2.36. The descriptor is close-on-exec by the kernel's own rule.
static inline int clinux_pidfd_open(pid_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0u); }

// tgkill(2): sends a signal to one thread.
static inline int clinux_send_to_thread(pid_t process, pid_t thread, int number) {
    return (int)syscall(SYS_tgkill, process, thread, number);
}

// A signal handler: prints where the calling thread is, to standard error. backtrace(3) loads a library at its first call,
// which a handler must not do: so call it once before.
static inline void clinux_print_backtrace(int number) {
    (void)number;
    int saved = errno;
    char line[] = "thread           0:\n";
    char *digit = line + sizeof(line) - 4;
    for (long rest = syscall(SYS_gettid); rest > 0; rest /= 10) *digit-- = (char)('0' + rest % 10);
    void *frames[64];
    if (write(STDERR_FILENO, line, sizeof(line) - 1) > 0)
        backtrace_symbols_fd(frames, backtrace(frames, 64), STDERR_FILENO);
    errno = saved;
}

// tgkill(2) with signal 0: declared by <signal.h> under _GNU_SOURCE only. Whether a thread is its process's main thread.
static inline _Bool clinux_is_main_thread(pid_t thread) {
    // The kernel compares the two numbers before it checks the permission.
    return syscall(SYS_tgkill, thread, thread, 0) == 0 || errno == EPERM;
}

// open(2): a macro made of others, which Swift does not import.
static const int clinux_tmpfile = O_TMPFILE;

// lseek(2): <linux/fs.h> and <unistd.h> both define it, and Swift takes neither.
static const int clinux_seek_hole = SEEK_HOLE;

// utimensat(2): UTIME_NOW and UTIME_OMIT are macros of <sys/stat.h> with a cast inside, which Swift does not import.
static const long clinux_utime_now = (1L << 30) - 1L;
static const long clinux_utime_omit = (1L << 30) - 2L;

// prctl(2) is variadic. Names the calling thread, for ps(1) and core dumps; the kernel cuts at 15 bytes.
static inline void clinux_name_this_thread(const char *name) { (void)prctl(PR_SET_NAME, name, 0ul, 0ul, 0ul); }

// statx(2): the mount that a file was reached through, since Linux 5.8. In linux/stat.h, which glibc's header does not
// always include.
enum { clinux_statx_mnt_id = 0x1000 };

// statx(2): the function and its structure have one name, and Swift takes the structure.
static inline int clinux_statx(int directory, const char *name, int flags, unsigned int mask, struct statx *status) {
    return statx(directory, name, flags, mask, status);
}

// statx(2): in <fcntl.h> a macro that Swift does not import.
static const int clinux_statx_dont_sync = AT_STATX_DONT_SYNC;

// openat2(2) has no wrapper. Opens a path (O_PATH) if the kernel can resolve it from its caches; EAGAIN if it cannot.
static inline int clinux_open_cached(int directory, const char *path) {
    struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_CACHED};
    return (int)syscall(SYS_openat2, directory, path, &how, sizeof how);
}

// makedev(3) and its inverses: macros.
static inline dev_t clinux_device(unsigned int major, unsigned int minor) { return makedev(major, minor); }
static inline unsigned int clinux_major(dev_t device) { return major(device); }
static inline unsigned int clinux_minor(dev_t device) { return minor(device); }

// fstatfs(2) of an overlayfs: the constant is in a header that is not always installed.
static const long clinux_overlayfs = 0x794c7630;

// fstatfs(2): file systems that have no flush operation, so that close(2) cannot fail there. All but a few numbers are
// those of <linux/magic.h>.
static const long clinux_ramfs = 0x858458F6;
static inline _Bool clinux_is_local_disk(long type) {
    switch ((unsigned long)type) {
    case 0xEF53:     // ext2, ext3, ext4
    case 0x58465342: // xfs
    case 0x9123683E: // btrfs
    case 0xF2F52010: // f2fs
    case 0xCA451A4E: // bcachefs
    case 0x01021994: // tmpfs
    case 0x858458F6: // ramfs
        return 1;
    default: return 0;
    }
}

// open(2): hidden behind _GNU_SOURCE.
static const int clinux_noatime = O_NOATIME;

// pwritev2(2): O_APPEND for one write alone, whatever the descriptor was opened with. Hidden behind _GNU_SOURCE.
static inline ssize_t clinux_append(int descriptor, const void *bytes, size_t count) {
    struct iovec part = {.iov_base = (void *)bytes, .iov_len = count};
    return pwritev2(descriptor, &part, 1, 0, RWF_APPEND);
}

// <stdatomic.h> on memory that two processes share: Swift's Atomic lives only in storage of its own.
static inline void clinux_store_release(uint64_t *word, uint64_t value) {
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}
static inline uint64_t clinux_load_acquire(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
static inline void clinux_add(uint64_t *word, uint64_t count) { __atomic_fetch_add(word, count, __ATOMIC_RELAXED); }

// sendmsg(2) with SCM_RIGHTS: the CMSG_* macros. One message with up to CLINUX_MOST_DESCRIPTORS descriptors.
enum { CLINUX_MOST_DESCRIPTORS = 3 };
static inline ssize_t clinux_send_message(
    int socket, const void *bytes, size_t count, const int *descriptors, size_t descriptor_count) {
    struct iovec part = {.iov_base = (void *)bytes, .iov_len = count};
    size_t size = descriptor_count * sizeof(int);
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(CLINUX_MOST_DESCRIPTORS * sizeof(int))];
    } control = {.header = {.cmsg_len = CMSG_LEN(size), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (descriptor_count > 0) {
        message.msg_control = control.room;
        message.msg_controllen = CMSG_SPACE(size);
        __builtin_memcpy(CMSG_DATA(&control.header), descriptors, size);
    }
    return sendmsg(socket, &message, MSG_NOSIGNAL);
}

// Its counterpart: one message, and the descriptors that came with it, close-on-exec; -1 for each that did not.
static inline ssize_t clinux_receive_message(
    int socket, void *bytes, size_t count, int descriptors[CLINUX_MOST_DESCRIPTORS]) {
    struct iovec part = {.iov_base = bytes, .iov_len = count};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(CLINUX_MOST_DESCRIPTORS * sizeof(int))];
    } control;
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof(control.room)};
    for (int i = 0; i < CLINUX_MOST_DESCRIPTORS; i++) descriptors[i] = -1;
    ssize_t received = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    struct cmsghdr *first = received < 0 ? 0 : CMSG_FIRSTHDR(&message);
    if (first != 0 && first->cmsg_level == SOL_SOCKET && first->cmsg_type == SCM_RIGHTS)
        __builtin_memcpy(descriptors, CMSG_DATA(first), first->cmsg_len - CMSG_LEN(0));
    return received;
}

// send(2): an enumerator and a macro of one name, of which Swift takes now the one, now the other.
static const int clinux_msg_nosignal = MSG_NOSIGNAL;

// pipe2(2) and splice(2) are there with _GNU_SOURCE only. They never wait, for room in a pipe or for bytes: -1 with EAGAIN.
static inline int clinux_pipe(int *reader, int *writer) {
    int ends[2];
    if (syscall(SYS_pipe2, ends, O_CLOEXEC | O_NONBLOCK) == -1) return -1;
    *reader = ends[0];
    *writer = ends[1];
    return 0;
}
static inline ssize_t clinux_splice(int source, off_t *position, int target, size_t count) {
    return syscall(SYS_splice, source, position, target, (off_t *)0, count, 2u /* SPLICE_F_NONBLOCK */);
}
// F_SETPIPE_SZ: bytes, made a power of two; -1 with EPERM where a user's pipes have taken too much memory.
static inline int clinux_set_pipe_capacity(int pipe, int bytes) { return fcntl(pipe, 1031, bytes); }

// read(2) and writev(2) without being cancellation points: glibc pays for that with two atomic operations a call.
static inline ssize_t clinux_read(int descriptor, void *bytes, size_t count) {
    return syscall(SYS_read, descriptor, bytes, count);
}
static inline ssize_t clinux_writev(int descriptor, const struct iovec *parts, int count) {
    return syscall(SYS_writev, descriptor, parts, count);
}

// prctl(2) is variadic. -1 with EPERM without CAP_SETPCAP.
static inline int clinux_securebits(void) { return prctl(PR_GET_SECUREBITS, 0ul, 0ul, 0ul, 0ul); }
static inline int clinux_set_securebits(int bits) { return prctl(PR_SET_SECUREBITS, (unsigned long)bits, 0ul, 0ul, 0ul); }

// capget(2) and capset(2): the C library has no wrappers. Of the calling thread; two words of 32 capabilities each.
static inline int clinux_capabilities(struct __user_cap_data_struct words[2]) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    return (int)syscall(SYS_capget, &header, words);
}
static inline int clinux_set_capabilities(const struct __user_cap_data_struct words[2]) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    return (int)syscall(SYS_capset, &header, words);
}

// name_to_handle_at(2) and open_by_handle_at(2): struct file_handle ends in an array without a size.
enum { clinux_handle_room = sizeof(struct file_handle) + MAX_HANDLE_SZ };
static inline int clinux_get_handle(int descriptor, void *room) {
    struct file_handle *handle = room;
    int mount;
    handle->handle_bytes = MAX_HANDLE_SZ;
    if (name_to_handle_at(descriptor, "", handle, &mount, AT_EMPTY_PATH) == -1) return -1;
    return (int)(sizeof(*handle) + handle->handle_bytes);
}
static inline int clinux_open_handle(int mount_descriptor, const void *handle, int flags) {
    // The kernel only reads it.
    return open_by_handle_at(mount_descriptor, (struct file_handle *)handle, flags);
}

// ioctl(2) is variadic; and its numbers are macros with a cast inside, which Swift does not import.
static inline int clinux_ioctl(int descriptor, unsigned int command, void *argument) {
    return ioctl(descriptor, command, argument);
}
static const unsigned int clinux_get_flags = FS_IOC_GETFLAGS;
static const unsigned int clinux_set_flags = FS_IOC_SETFLAGS;
static const unsigned int clinux_get_fsx = FS_IOC_FSGETXATTR;
static const unsigned int clinux_set_fsx = FS_IOC_FSSETXATTR;

// epoll(7): struct epoll_event is packed and holds a union. A descriptor is watched for input under a tag of the caller's;
// waiting fills in the tags of those that have some, and returns how many.
static inline int clinux_epoll_add(int epoll, int descriptor, uint64_t tag) {
    struct epoll_event event = {.events = EPOLLIN, .data = {.u64 = tag}};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event);
}
static inline int clinux_epoll_wait(int epoll, uint64_t *tags, int most, int milliseconds) {
    struct epoll_event events[64];
    int count = epoll_wait(epoll, events, most < 64 ? most : 64, milliseconds);
    for (int i = 0; i < count; i++) tags[i] = events[i].data.u64;
    return count;
}

// linux/fuse.h since protocol 7.39, which Debian 12's headers are older than: statx(2)'s question and its answer.
enum { clinux_fuse_statx = 52 }; // FUSE_STATX
struct clinux_fuse_sx_time {
    int64_t seconds;
    uint32_t nanoseconds;
    int32_t reserved;
};
struct clinux_fuse_statx_out {
    uint64_t attr_valid; // seconds for which the rest is good
    uint32_t attr_valid_nsec;
    uint32_t flags;
    uint64_t spare[2];
    // struct fuse_statx
    uint32_t mask;
    uint32_t blksize;
    uint64_t attributes;
    uint32_t nlink;
    uint32_t uid;
    uint32_t gid;
    uint16_t mode;
    uint16_t spare0[1];
    uint64_t ino;
    uint64_t size;
    uint64_t blocks;
    uint64_t attributes_mask;
    struct clinux_fuse_sx_time atime, btime, ctime, mtime;
    uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
    uint64_t spare2[14];
};

// linux/fuse.h since protocol 7.40, which Debian 12's headers are older than: files that the kernel reads and writes by itself.
enum {
    clinux_fuse_has_resend_high = 1 << (39 - 32), // FUSE_HAS_RESEND, since protocol 7.40 (Linux 6.9)
    clinux_fuse_notify_resend = 7, // FUSE_NOTIFY_RESEND
    clinux_fuse_passthrough_high = 1 << (37 - 32), // FUSE_PASSTHROUGH, among the upper 32 flags of INIT
    clinux_fopen_passthrough = 1 << 7,             // FOPEN_PASSTHROUGH
    clinux_fuse_allow_idmap_high = 1 << (40 - 32), // FUSE_ALLOW_IDMAP, since protocol 7.42 (Linux 6.12)
};
struct clinux_fuse_backing_map {
    int32_t descriptor;
    uint32_t flags;
    uint64_t padding;
};
static inline int clinux_fuse_backing_open(int connection, int descriptor) {
    struct clinux_fuse_backing_map map = {.descriptor = descriptor};
    return ioctl(connection, _IOW(229, 1, struct clinux_fuse_backing_map), &map);
}
static inline int clinux_fuse_backing_close(int connection, uint32_t file) {
    return ioctl(connection, _IOW(229, 2, uint32_t), &file);
}

// environ(7): declared twice.
static inline char *const *clinux_environment(void) { return environ; }

// fsopen(2), fsconfig(2), fsmount(2), move_mount(2), openat2(2): no wrappers before glibc 2.36.
enum {
    clinux_fsconfig_set_flag = 0,
    clinux_fsconfig_set_string = 1,
    clinux_fsconfig_create = 6,
    clinux_fsconfig_reconfigure = 7,
    clinux_mount_attr_rdonly = 1,
    clinux_mount_attr_nosuid = 2,
    clinux_mount_attr_nodev = 4,
    clinux_mount_attr_noexec = 8,
};
static inline int clinux_fsopen(const char *type) { return (int)syscall(SYS_fsopen, type, 1u /* FSOPEN_CLOEXEC */); }
static inline int clinux_fsconfig(int context, unsigned int command, const char *key, const char *value) {
    return (int)syscall(SYS_fsconfig, context, command, key, value, 0);
}
static inline int clinux_fsmount(int context, unsigned int attributes) {
    return (int)syscall(SYS_fsmount, context, 1u /* FSMOUNT_CLOEXEC */, attributes);
}
// Attaches a mount that fsmount(2) returned to an open directory.
static inline int clinux_attach_mount(int mount, int directory) {
    return (int)syscall(SYS_move_mount, mount, "", directory, "", 0x44u /* MOVE_MOUNT_F_EMPTY_PATH | _T_EMPTY_PATH */);
}

// fcntl(2) is variadic, and F_OFD_* are hidden behind _GNU_SOURCE. Locks one byte of a file for reading; -1 with EAGAIN.
static inline int clinux_lock_byte(int descriptor, off_t byte) {
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    return fcntl(descriptor, F_OFD_SETLK, &lock);
}
// The same for writing; waits for other locks if `waits`.
static inline int clinux_take_byte(int descriptor, off_t byte, int waits) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    return fcntl(descriptor, waits ? F_OFD_SETLKW : F_OFD_SETLK, &lock);
}
// Whether somebody else holds a lock of the byte: 1 or 0; -1 on failure.
static inline int clinux_is_byte_locked(int descriptor, off_t byte) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    return fcntl(descriptor, F_OFD_GETLK, &lock) == -1 ? -1 : lock.l_type != F_UNLCK;
}

#endif
