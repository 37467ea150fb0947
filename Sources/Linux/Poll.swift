import Glibc
import SystemPackage

/// Waits until a descriptor is ready for what `questions` ask, or for an instant; nil is for ever.
///
/// Their `revents` tell which. An interrupted wait goes on, and a limit in the past means one look.
///
/// - Returns: Whether any is ready.
///
/// The corresponding C function is `poll`.
@discardableResult
package func poll(_ questions: inout [pollfd], until limit: ContinuousClock.Instant?) -> Bool {
    while true {
        var timeout: CInt = -1
        if let limit {
            let left = limit - .now
            // A little late rather than a little early, which would mean a second round.
            if left > .seconds(CInt.max / 1000 - 1) {
                timeout = .max
            } else {
                let (seconds, attoseconds) = left.components
                timeout = left > .zero ? CInt(seconds * 1000 + attoseconds / 1_000_000_000_000_000 + 1) : 0
            }
        }
        let answered = poll(&questions, nfds_t(questions.count), timeout)
        if answered == -1, Errno.current == .interrupted { continue }
        return answered > 0
    }
}
