/// A best-effort copy outwards of what is touched and forgotten here.
///
/// Any thread may call any of these, with locks of its own held: none waits for more than memory.
public protocol LivenessMirror: Sendable {
    /// The stamp of a change made here and now, by the clock that all who share records go by.
    func stamp(_ now: WallTime) -> HLCTimestamp

    /// Notes a record that was changed by a touch.
    func note(_ record: Record, of subject: RecordSubject)

    /// Notes that a record was forgotten.
    func noteForgotten(_ subject: RecordSubject, stamp: HLCTimestamp)

    var status: MirrorStatus { get }
}

/// Where the records of others go.
public protocol SharedRecordReceiver: Sendable {
    /// Takes in a touch of a runtime or of a signal file, unless something later is known.
    ///
    /// - Parameter exit: Of a runtime whose process has ended since.
    func receive(_ touch: Touch, exit: Record.Exit?)

    /// Forgets what somebody else has forgotten, unless it was touched later.
    ///
    /// - Parameter time: When that was, by our clock.
    func receiveForget(_ subject: RecordSubject, stamp: HLCTimestamp, at time: WallTime)
}
