import CLinux
import Glibc

/// Makes a system call fail on one thread, for ever: a seccomp filter of the thread's own.
enum ThreadFilter {
    /// One instruction of classic BPF (`struct sock_filter` in linux/filter.h).
    private struct Instruction {
        var code: UInt16
        var jumpIfTrue: UInt8 = 0
        var jumpIfFalse: UInt8 = 0
        var value: UInt32
    }

    /// `struct sock_fprog`.
    private struct Program {
        var length: UInt16
        var instructions: UnsafePointer<Instruction>
    }

    /// From now on writev(2) on the calling thread writes nothing and answers `errno`.
    ///
    /// False when filters cannot be had here.
    static func failEveryWritev(with errno: CInt) -> Bool {
        // prctl(2) is variadic, which Swift does not import.
        typealias Prctl = @convention(c) (CInt, UInt, UInt, UInt, UInt) -> CInt
        guard let symbol = dlsym(nil, "prctl") else { return false }
        // because integers are passed to a variadic function as to any other, on x86-64 and on AArch64.
        let prctl = unsafeBitCast(symbol, to: Prctl.self)
        let instructions = [
            // Load the number of the system call (BPF_LD | BPF_W | BPF_ABS, offset 0 of struct seccomp_data).
            Instruction(code: 0x20, value: 0),
            // Go on if it is writev, else skip one (BPF_JMP | BPF_JEQ | BPF_K).
            Instruction(code: 0x15, jumpIfFalse: 1, value: UInt32(SYS_writev)),
            // SECCOMP_RET_ERRNO, SECCOMP_RET_ALLOW (BPF_RET | BPF_K).
            Instruction(code: 0x06, value: 0x0005_0000 | UInt32(errno)),
            Instruction(code: 0x06, value: 0x7fff_0000),
        ]
        return instructions.withUnsafeBufferPointer { instructions in
            guard let first = instructions.baseAddress else { return false }
            let program = Program(length: UInt16(instructions.count), instructions: first)
            return withUnsafePointer(to: program) { program in
                // Without new privileges anybody may filter; SECCOMP_MODE_FILTER is 2.
                prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                    && prctl(PR_SET_SECCOMP, 2, UInt(bitPattern: program), 0, 0) == 0
            }
        }
    }
}
