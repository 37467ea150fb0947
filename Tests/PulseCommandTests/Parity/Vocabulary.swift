import CLinux
import Glibc

/// The constants in scenarios, by their names in the man pages.
enum Vocabulary {
    /// The value of a number, or of names joined by `|`.
    ///
    /// Numbers are octal with a leading zero, hexadecimal with `0x`, and may end in K, M, G or T.
    static func value(of text: String) -> Int? {
        var value = 0
        for name in text.split(separator: "|", omittingEmptySubsequences: false) {
            guard let part = constants[String(name)] ?? number(String(name)) else { return nil }
            value |= part
        }
        return value
    }

    private static func number(_ text: String) -> Int? {
        if text.hasPrefix("0x") { return Int(text.dropFirst(2), radix: 16) }
        if text.hasPrefix("0") && text.count > 1 { return Int(text, radix: 8) }
        let shifts: [Character: Int] = ["K": 10, "M": 20, "G": 30, "T": 40]
        guard let last = text.last, let shift = shifts[last] else { return Int(text) }
        return Int(text.dropLast()).map { $0 << shift }
    }

    private static let constants: [String: Int] = [
        // open(2)
        "O_RDONLY": Int(O_RDONLY), "O_WRONLY": Int(O_WRONLY), "O_RDWR": Int(O_RDWR), "O_ACCMODE": Int(O_ACCMODE),
        "O_CREAT": Int(O_CREAT), "O_EXCL": Int(O_EXCL), "O_TRUNC": Int(O_TRUNC), "O_APPEND": Int(O_APPEND),
        "O_NONBLOCK": Int(O_NONBLOCK), "O_DIRECTORY": Int(O_DIRECTORY), "O_NOFOLLOW": Int(O_NOFOLLOW),
        "O_NOCTTY": Int(O_NOCTTY), "O_DSYNC": Int(O_DSYNC), "O_SYNC": Int(O_SYNC),
        "O_PATH": 0o1000_0000, "O_NOATIME": 0o100_0000, "O_DIRECT": 0o4_0000, "O_TMPFILE": 0o2020_0000,
        // *at(2)
        "AT_SYMLINK_FOLLOW": 0x400, "AT_SYMLINK_NOFOLLOW": 0x100, "AT_EMPTY_PATH": 0x1000, "AT_EACCESS": 0x200,
        "AT_REMOVEDIR": 0x200, "F_OK": 0, "R_OK": 4, "W_OK": 2, "X_OK": 1,
        // renameat2(2)
        "RENAME_NOREPLACE": 1, "RENAME_EXCHANGE": 2, "RENAME_WHITEOUT": 4,
        // lseek(2)
        "SEEK_SET": 0, "SEEK_CUR": 1, "SEEK_END": 2, "SEEK_DATA": 3, "SEEK_HOLE": 4,
        // fallocate(2)
        "FALLOC_FL_KEEP_SIZE": 1, "FALLOC_FL_PUNCH_HOLE": 2, "FALLOC_FL_COLLAPSE_RANGE": 8,
        "FALLOC_FL_ZERO_RANGE": 16, "FALLOC_FL_INSERT_RANGE": 32, "FALLOC_FL_UNSHARE_RANGE": 64,
        // flock(2), fcntl(2)
        "LOCK_SH": 1, "LOCK_EX": 2, "LOCK_NB": 4, "LOCK_UN": 8, "F_RDLCK": 0, "F_WRLCK": 1, "F_UNLCK": 2,
        "F_GETFL": 3, "F_SETFL": 4, "F_GETFD": 1, "F_SETLEASE": 1024, "F_GETLEASE": 1025,
        "F_OFD_GETLK": 36, "F_OFD_SETLK": 37, "F_SETLK": 6, "F_GETPIPE_SZ": 1032,
        // mmap(2), msync(2), posix_fadvise(2)
        "PROT_READ": 1, "PROT_WRITE": 2, "PROT_EXEC": 4, "PROT_NONE": 0, "MAP_SHARED": 1, "MAP_PRIVATE": 2,
        "MS_ASYNC": 1, "MS_SYNC": 4,
        // setxattr(2)
        "XATTR_CREATE": 1, "XATTR_REPLACE": 2,
        // pwritev2(2)
        "RWF_APPEND": 16, "RWF_DSYNC": 2, "RWF_NOWAIT": 8,
    ]
}
