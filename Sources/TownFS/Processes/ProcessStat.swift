import Glibc

/// What `/proc/<pid>/stat` says of a thread, in proc(5)'s numbering of its fields.
struct ProcessStat: Hashable, Sendable {
    /// Tells one program that a thread has run from the next: the kernel lays out memory anew at each execve(2).
    ///
    /// Where we may not see addresses of another user's process, its name has to do.
    struct Image: Hashable, Sendable {
        /// In clock ticks since boot, field 22: with the number it tells a process from one that got its number later.
        let startTime: UInt64
        fileprivate let startCode: UInt64
        fileprivate let startStack: UInt64
        fileprivate let name: String

        /// Whether there is no memory (any more): of a kernel thread, a zombie, or one that is just ending.
        let isWithoutMemory: Bool

        /// Whether both may be of one memory: both show the same addresses, or one shows none.
        func mayShareMemory(with other: Image) -> Bool {
            startStack <= 1 || other.startStack <= 1
                || startStack == other.startStack && startCode == other.startCode
        }
    }

    let image: Image
    let parent: pid_t
    /// What the kernel calls the program, at most 15 bytes.
    let program: String
    let isZombie: Bool
    /// Whether it is in a sleep that only what it waits for ends, such as a page fault's.
    let isWaitingForDisk: Bool
    /// How many the process has.
    let threads: Int

    /// Enough for all fields and the longest name.
    static let room = 1024

    /// Reads the text; nil for what is no such.
    ///
    /// A name may hold anything, parentheses and spaces too: its end is the last one.
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
