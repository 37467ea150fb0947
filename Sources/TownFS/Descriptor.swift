import Fuse

/// An open descriptor that several may hold; closed when the last one lets go.
///
/// The node store keeps some of these and drops them when there are too many, while operations that have borrowed one
/// go on using it.
final class Descriptor: Sendable {
    private let owned: OwnedDescriptor

    init(_ owned: consuming OwnedDescriptor) {
        self.owned = owned
    }

    /// Borrowed for a system call by whoever holds the object.
    var rawValue: CInt { owned.rawValue }
}
