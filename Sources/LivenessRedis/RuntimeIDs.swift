import Linux
import Liveness
import Synchronization

/// The map of runtime ids in use, from a file that is looked at now and then and may be on a disk that hangs.
final class RuntimeIDs: Sendable {
    /// What looking at the file has brought.
    struct News: Sendable {
        let count: Int
        /// What is wrong with the file; the map is that of before then.
        let problem: String?
    }

    private let file: Mutex<RuntimeIDFile>
    private let current = Mutex(RuntimeIDMap())
    private let isHanging = Atomic<Bool>(false)

    init(path: String) {
        file = Mutex(RuntimeIDFile(path: path))
    }

    var map: RuntimeIDMap { current.withLock { $0 } }

    /// Looks at the file, and gives up waiting for it at the limit.
    ///
    /// - Returns: Nil where there is no news.
    func refresh(within limit: Duration) -> News? {
        // Who looked last time may still be at it.
        guard !isHanging.exchange(true, ordering: .acquiring) else { return nil }
        let news = try? within(limit) { () -> News? in
            // The lock is held over a file that may hang: nobody else asks for it.
            self.file.withLock { file in
                defer { self.isHanging.store(false, ordering: .releasing) }
                guard file.refresh() else { return nil }
                self.current.withLock { $0 = file.map }
                return News(count: file.map.count, problem: file.problem)
            }
        }
        return news ?? nil
    }
}
