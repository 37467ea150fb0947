import Glibc

/// `/proc/<pid>/stat` of a thread.
///
/// Field numbers are those of proc(5).
struct ProcessStat: Hashable, Sendable {
    /// Identifies one program that a thread runs: execve(2) changes the memory layout.
    ///
    /// If addresses of another user's process are hidden, the name is used.
    struct Image: Hashable, Sendable {
        /// Field 22, in clock ticks since boot.
        ///
        /// Distinguishes processes with the same number.
        let startTime: UInt64
        fileprivate let startCode: UInt64
        fileprivate let startStack: UInt64
        fileprivate let name: String

        /// Whether it is a kernel thread, a zombie, or ending.
        let isWithoutMemory: Bool

        /// Whether both may be of one memory: both show the same addresses, or one shows none.
        func mayShareMemory(with other: Image) -> Bool {
            startStack <= 1 || other.startStack <= 1
                || startStack == other.startStack && startCode == other.startCode
        }
    }

    let image: Image
    let parent: pid_t
    /// The program's name, at most 15 bytes.
    let program: String
    let isZombie: Bool
    /// Whether it is in uninterruptible sleep (state D), for example in a page fault.
    let isWaitingForDisk: Bool
    /// Number of threads in the process.
    let threads: Int

    /// Buffer size for all fields and the longest name.
    static let bufferSize = 1024

    /// Parses the text; nil if it is malformed.
    ///
    /// A name may contain parentheses and spaces, so it ends at the last parenthesis.
    init?(_ text: UnsafeRawBufferPointer) {
        guard let open = text.firstIndex(of: UInt8(ascii: "(")), let close = text.lastIndex(of: UInt8(ascii: ")")),
            open < close
        else { return nil }
        program = String(decoding: UnsafeRawBufferPointer(rebasing: text[(open + 1)..<close]), as: UTF8.self)
        var field = 2
        var value: UInt64 = 0
        var parent: pid_t = 0
        var startTime: UInt64 = 0
        var startCode: UInt64 = 0
        var startStack: UInt64 = 0
        var state: UInt8 = 0
        var threads: UInt64 = 0
        for byte in text[(close + 1)...] {
            if byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\n") {
                switch field {
                case 4: parent = pid_t(truncatingIfNeeded: value)
                case 20: threads = value
                case 22: startTime = value
                case 26: startCode = value
                case 28: startStack = value
                default: break
                }
                field += 1
                value = 0
                if field > 28 { break }
            } else if field == 3 {
                state = byte
            } else {
                value = value &* 10 &+ UInt64(byte &- UInt8(ascii: "0"))
            }
        }
        guard field > 28 else { return nil }
        self.parent = parent
        self.threads = Int(clamping: threads)
        isZombie = "ZXx".utf8.contains(state)
        isWaitingForDisk = state == UInt8(ascii: "D")
        image = Image(
            startTime: startTime, startCode: startCode, startStack: startStack,
            name: startStack <= 1 ? program : "", isWithoutMemory: startStack == 0)
    }
}
