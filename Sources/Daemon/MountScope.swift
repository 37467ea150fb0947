import ArgumentParser

/// Which directories are mounted.
package enum MountScope: String, ExpressibleByArgument, CaseIterable {
    /// The whole town, by one mount.
    case town
    /// `.pulse` and each directory that can hold signal files, by one mount each.
    case signals
}
