/// The part of a town that one mount covers.
enum SignalMount {
    /// The whole town, with `.pulse` in its root.
    case town
    /// A directory that can hold signal files, by its path relative to the town root.
    case directory([UInt8])
}
