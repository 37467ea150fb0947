/// What one mount of a town covers.
enum SignalMount {
    /// All of it, with `.pulse` in its root.
    case town
    /// A directory that can hold signal files, and what is beneath it, by its path relative to the town root.
    case directory([UInt8])
}
