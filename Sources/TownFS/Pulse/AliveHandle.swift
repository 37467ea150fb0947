import Fuse
import Glibc
import Liveness
import Synchronization
import SystemPackage

/// One opening of a file in `.pulse/alive`: what it reads, and what it is told.
///
/// To make or empty the file says that the runtime is alive, and to write `30s` to it, for how long; a program that does
/// both says one thing. So what was emptied counts when nobody can write to it any more, at release, or as soon as the
/// one who emptied and closed it looks: a shell closes a copy of the descriptor before it writes.
final class AliveHandle: Sendable {
    /// More is no duration.
    private static let mostBytes = 64

    private struct State {
        var draft: [UInt8] = []
        /// Whether something is to be said yet.
        var isPending: Bool
        /// Whether a descriptor of it has been closed.
        var isFlushed = false
    }

    let id: RuntimeID
    /// As of when it was opened.
    let text: [UInt8]
    /// The thread that opened it, and its process.
    let thread: pid_t
    let process: Touch.Process?
    private let state: Mutex<State>

    /// - Parameter isTouching: Whether to open it was to make or to empty it.
    init(_ id: RuntimeID, text: [UInt8], isTouching: Bool, thread: pid_t, process: Touch.Process?) {
        self.id = id
        self.text = text
        self.thread = thread
        self.process = process
        state = Mutex(State(isPending: isTouching))
    }

    /// EFBIG beyond what a duration takes, EINVAL for a hole and for a line that is no duration.
    func write(_ bytes: UnsafeRawBufferPointer, at offset: off_t, appending: Bool) throws(Errno) -> Int {
        try state.withLock { (state) throws(Errno) in
            // Who says something that is refused has said nothing.
            state.isPending = false
            let start = appending ? state.draft.count : Int(clamping: offset)
            guard start <= Self.mostBytes, bytes.count <= Self.mostBytes - start else { throw .fileTooLarge }
            guard start <= state.draft.count else { throw .invalidArgument }
            var draft = state.draft
            draft.replaceSubrange(start..<min(start + bytes.count, draft.count), with: bytes)
            // Shells tell of a failed write, and not of a failed close.
            if draft.last == UInt8(ascii: "\n") { _ = try Self.ttl(draft) }
            state.draft = draft
            state.isPending = true
            return bytes.count
        }
    }

    /// EINVAL for any size but 0.
    func truncate(to size: off_t) throws(Errno) {
        guard size == 0 else { throw .invalidArgument }
        state.withLock { state in
            state.draft = []
            state.isPending = true
        }
    }

    /// Notes that the runtime has been touched otherwise, as touch(1) does between opening and closing.
    func noteTouch() {
        state.withLock { state in
            if state.draft.isEmpty { state.isPending = false }
        }
    }

    /// How long what was written proves life; nil when nothing was, or has been told already.
    ///
    /// For each close. EINVAL when it is no duration: then nothing is said.
    func flush() throws(Errno) -> Duration? {
        let draft: [UInt8]? = state.withLock { state in
            state.isFlushed = true
            guard state.isPending, !state.draft.isEmpty else { return nil }
            state.isPending = false
            return state.draft
        }
        guard let draft else { return nil }
        return try Self.ttl(draft)
    }

    /// Whether the file was made or emptied, and that has not been told: for the end, and for whoever has closed it and
    /// looks.
    func settle(isReleased: Bool) -> Bool {
        state.withLock { state in
            guard state.isPending, state.draft.isEmpty, isReleased || state.isFlushed else { return false }
            state.isPending = false
            return true
        }
    }

    private static func ttl(_ draft: [UInt8]) throws(Errno) -> Duration {
        let words = String(decoding: draft, as: UTF8.self).split(whereSeparator: \.isWhitespace)
        guard words.count == 1, let ttl = try? Duration(spelled: String(words[0])) else { throw .invalidArgument }
        return ttl
    }
}
