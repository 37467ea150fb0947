import Liveness

extension Touch {
    /// A touch at a clock's time, or `delay` later.
    package init(
        at clock: FakeClock, after delay: Duration = .zero, runtime: RuntimeID? = nil, signal: [UInt8]? = nil,
        ttl: Duration = Touch.defaultTTL, document text: String? = nil, source: Source = .written
    ) {
        let (wall, instant) = clock.both
        self.init(
            signal: signal, runtime: runtime, receivedAt: wall + delay, at: instant + delay, ttl: ttl,
            document: text.map { Document(Array($0.utf8)) }, source: source)
    }
}
