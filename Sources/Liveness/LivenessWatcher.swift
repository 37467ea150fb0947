/// Is told that there is something to look at in an `InMemoryLivenessStore`.
///
/// Called by whoever touches, with none of the store's locks held; neither method may take longer than a wake-up.
public protocol LivenessWatcher: Sendable {
    /// An event was noted.
    func noteEvent()

    /// A runtime will expire earlier than the last `noteExpired` has said.
    func noteEarlierDeadline()
}
