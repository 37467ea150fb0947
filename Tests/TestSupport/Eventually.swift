import Glibc

/// Polls a condition until it holds or `limit` has passed.
///
/// - Returns: Whether the condition held in time.
package func eventually(within limit: Duration = .seconds(20), _ condition: () throws -> Bool) rethrows -> Bool {
    let deadline = ContinuousClock.now + limit
    return try poll(until: { .now >= deadline }, condition)
}

/// Polls a condition until it holds or a promise is broken.
package func eventually(within promise: Promise, _ condition: () throws -> Bool) rethrows -> Bool {
    try poll(until: { !promise.isKept }, condition)
}

private func poll(until isOver: () -> Bool, _ condition: () throws -> Bool) rethrows -> Bool {
    while true {
        if try condition() { return true }
        if isOver() { return false }
        usleep(1_000)
    }
}
