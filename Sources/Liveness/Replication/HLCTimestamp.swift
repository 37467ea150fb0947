/// Orders changes of one record across origins.
///
/// A hybrid logical clock: the time of receipt by the shared clock, moved past the last known change of the record. All
/// origins that have seen the same changes agree on the last. (Kulkarni et al., "Logical Physical Clocks", 2014.)
public struct HLCTimestamp: Hashable, Comparable, Sendable {
    public var time: WallTime
    /// Breaks ties; nil for a change made here without a mirror.
    public var origin: Origin?

    public init(_ time: WallTime, by origin: Origin? = nil) {
        self.time = time
        self.origin = origin
    }

    /// This timestamp, or the next one of its origin after `other` if that is later.
    func later(than other: HLCTimestamp) -> HLCTimestamp {
        self > other ? self : HLCTimestamp(other.time + .nanoseconds(1), by: origin)
    }

    public static func < (first: HLCTimestamp, second: HLCTimestamp) -> Bool {
        if first.time != second.time { return first.time < second.time }
        return switch (first.origin, second.origin) {
        case (let first?, let second?): first < second
        case (nil, _?): true
        case (_, nil): false
        }
    }
}
