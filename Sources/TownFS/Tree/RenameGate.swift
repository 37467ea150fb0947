import Linux
import Synchronization
import SystemPackage

/// The renames in progress, for searches that may have missed a file because of one.
///
/// Between the system call that renames a file and the update of the node store, the file is not where the store says.
/// A search that has missed waits for the renames of files on its path, and for no others: a rename that hangs, in
/// another mount inside the town, holds up only what it moves.
final class RenameGate: Sendable {
    private struct State {
        /// How many renames of each file are in progress.
        var moving: [FileIdentity: Int] = [:]
        var ended: UInt64 = 0
        var waiting: [EventFD] = []

        mutating func end(_ file: FileIdentity) {
            let count = moving[file, default: 1] - 1
            moving[file] = count > 0 ? count : nil
        }
    }

    private let state = Mutex(State())

    /// How many renames have ended.
    var ended: UInt64 { state.withLock { $0.ended } }

    /// Calls `body`, which renames a file, and exchanges it with `other` if there is one, and updates the node store.
    func whileRenaming<Result, Failure: Error>(
        _ file: FileIdentity, exchanging other: FileIdentity? = nil, _ body: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        state.withLock { state in
            state.moving[file, default: 0] += 1
            if let other { state.moving[other, default: 0] += 1 }
        }
        defer {
            let waiting = state.withLock { state in
                state.end(file)
                if let other { state.end(other) }
                state.ended += 1
                defer { state.waiting = [] }
                return state.waiting
            }
            for event in waiting { event.signal() }
        }
        return try body()
    }

    /// Whether a rename of one of the files is in progress.
    func isRenaming(_ files: [FileIdentity]) -> Bool {
        state.withLock { state in files.contains { state.moving[$0] != nil } }
    }

    /// Waits until no rename of one of the files is in progress.
    func waitForRenames(of files: [FileIdentity]) throws(Errno) {
        while isRenaming(files) {
            let event = try EventFD()
            let mustWait = state.withLock { state in
                let isRenaming = files.contains { state.moving[$0] != nil }
                if isRenaming { state.waiting.append(event) }
                return isRenaming
            }
            if mustWait { event.wait() }
        }
    }
}
