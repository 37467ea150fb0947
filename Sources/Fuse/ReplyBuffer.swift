import Glibc

/// Memory in which a thread puts together answers that carry data.
///
/// One block a thread, as large as the largest answer it has given so far (the kernel asks for 1 MiB at most), so that
/// reading costs no allocation. The pages are the thread's until it ends.
enum ReplyBuffer {
    private static let key: pthread_key_t = {
        var key = pthread_key_t()
        // Fails only when the process has used up all 1,024 keys.
        precondition(pthread_key_create(&key, { Unmanaged<Block>.fromOpaque($0!).release() }) == 0)
        return key
    }()

    static func withBytes<Result>(
        _ count: Int, _ body: (UnsafeMutableRawBufferPointer) throws -> Result
    ) rethrows -> Result {
        let block = forThisThread()
        block.grow(to: count)
        return try body(UnsafeMutableRawBufferPointer(rebasing: block.bytes[..<count]))
    }

    private static func forThisThread() -> Block {
        if let known = pthread_getspecific(key) {
            // because the key's destructor, which takes the retain below back, runs when the thread has ended.
            return Unmanaged<Block>.fromOpaque(known).takeUnretainedValue()
        }
        let block = Block()
        pthread_setspecific(key, Unmanaged.passRetained(block).toOpaque())
        return block
    }

    private final class Block {
        private(set) var bytes = UnsafeMutableRawBufferPointer(start: nil, count: 0)

        func grow(to count: Int) {
            guard count > bytes.count else { return }
            bytes.deallocate()
            bytes = .allocate(byteCount: count, alignment: 16)
        }

        deinit {
            bytes.deallocate()
        }
    }
}
