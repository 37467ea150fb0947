import CLinux
import Fuse
import Glibc
func f() {
 print(POSIX_SPAWN_SETSID, SEEK_HOLE, FALLOC_FL_PUNCH_HOLE, getdents64 as Any, copy_file_range as Any, O_TMPFILE, O_PATH, FileStatus(), AT_EMPTY_PATH, fallocate as Any, O_NOFOLLOW, O_DIRECTORY)
 let a: off_t = 1; print(a, MNT_DETACH, memfd_create as Any, clinux_utime_now, RENAME_NOREPLACE, DT_DIR, MFD_CLOEXEC)
}
