/// Which of two changes of one record came later, wherever they were made.
///
/// A hybrid clock: usually the time of receipt by the clock that all sharers go by, but always later than what the
/// record's last known change was stamped with. So all who have seen the same changes agree on the last.
/// (Kulkarni et al., "Logical Physical Clocks", 2014.)
public struct HLCTimestamp: Hashable, Comparable, Sendable {
    public var time: WallTime
    /// Decides where two have the same time; nil for whoever asks.
    public var origin: Origin?

    public init(_ time: WallTime, by origin: Origin? = nil) {
        self.time = time
        self.origin = origin
    }

    /// The least stamp of the same origin that is later than another one.
    func later(than other: HLCTimestamp) -> HLCTimestamp {
        self > other ? self : HLCTimestamp(other.time + .nanoseconds(1), by: origin)
    }

    public static func < (earlier: HLCTimestamp, later: HLCTimestamp) -> Bool {
        if earlier.time != later.time { return earlier.time < later.time }
        return switch (earlier.origin, later.origin) {
        case (let earlier?, let later?): earlier < later
        case (nil, _?): true
        case (_, nil): false
        }
    }
}
