import ArgumentParser

/// What is mounted over.
enum MountScope: String, ExpressibleByArgument, CaseIterable {
    /// The whole town, by one mount.
    case town
    /// `.pulse` and each directory that can hold signal files, by a mount each.
    case signals
}
