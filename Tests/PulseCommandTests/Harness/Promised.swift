import Glibc

extension Duration {
    /// What a test allows for something that is promised within a time.
    ///
    /// Whoever has a machine for himself holds the program to its word with `PULSEFS_TEST_PATIENCE=1`. Elsewhere others are at
    /// work, too, and their share of the processors and of the disk is no fault of the program's: it gets five times as long.
    static func promised(_ limit: Duration) -> Duration { limit * patience }

    private static let patience = getenv("PULSEFS_TEST_PATIENCE").flatMap { Int(String(cString: $0)) } ?? 5
}
