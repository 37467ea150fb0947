/// A best-effort copy of local changes elsewhere.
///
/// Thread-safe. Never blocks, so callers may hold locks.
public protocol LivenessMirror: Sendable {
    /// The stamp of a change made here now, by the clock that all origins share.
    func stamp(_ now: WallTime) -> HLCTimestamp

    /// Queues a record that a touch or an exit changed.
    func enqueue(_ record: Record, of subject: RecordSubject)

    func enqueueForget(of subject: RecordSubject, stamp: HLCTimestamp)

    var status: MirrorStatus { get }
}

/// Receives the changes of other origins.
public protocol SharedRecordReceiver: Sendable {
    /// Merges a touch of a runtime or of a signal file, unless a later change is known.
    ///
    /// - Parameter exit: The exit of the runtime since then, if it has exited.
    func receive(_ touch: Touch, exit: Record.Exit?)

    /// Drops a record that another origin forgot, unless it was touched later.
    ///
    /// - Parameter time: When it was forgotten, by the local clock.
    func receiveForget(_ subject: RecordSubject, stamp: HLCTimestamp, at time: WallTime)
}
