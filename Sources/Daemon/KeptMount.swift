import Linux
import TownFS

/// What the service manager keeps of a mount: with it, a new keeper goes on after all processes have died.
///
/// Descriptors of unlinked files follow within a second, because programs unlink many files that they close soon.
struct KeptMount {
    private enum Name {
        static let connection = "connection-"
        static let root = "root"
        static let journal = "journal"
        static let state = "state"
        static let unlinked = "unlinked-"
    }

    private static let delay: Duration = .seconds(1)

    /// The connection's name tells it from that of another mount of the town.
    private let connection: String
    private var unlinked: Set<UInt64> = []
    /// When `update` is to be called; nil if nothing has changed.
    private(set) var deadline: ContinuousClock.Instant?

    init(of mount: MountInfo) {
        connection = Self.connection(of: mount)
    }

    private static func connection(of mount: MountInfo) -> String {
        // systemd separates names by colons.
        Name.connection + mount.device.replacing(":", with: "-")
    }

    /// Has the service manager keep a mount.
    func keep(_ inheritance: Inheritance) {
        ServiceManager.keep(inheritance.connection, as: connection)
        ServiceManager.keep(inheritance.root, as: Name.root)
        ServiceManager.keep(inheritance.journal, as: Name.journal)
        ServiceManager.keep(inheritance.state, as: Name.state)
    }

    mutating func noteChange() {
        if deadline == nil, ServiceManager.isPresent { deadline = .now + Self.delay }
    }

    /// Sends what has changed.
    ///
    /// - Parameter kept: What the worker has given the keeper to keep, by key.
    mutating func update(_ kept: [UInt64: SharedDescriptor]) {
        deadline = nil
        for key in unlinked where kept[key] == nil { ServiceManager.drop("\(Name.unlinked)\(key)") }
        for (key, descriptor) in kept where !unlinked.contains(key) {
            ServiceManager.keep(descriptor.rawValue, as: "\(Name.unlinked)\(key)")
        }
        unlinked = Set(kept.keys)
    }

    /// Has the service manager drop everything, because the mount ends.
    func dropAll() {
        let names = [connection, Name.root, Name.journal, Name.state] + unlinked.map { "\(Name.unlinked)\($0)" }
        names.forEach(ServiceManager.drop)
    }

    /// What the service manager has kept.
    struct Descriptors {
        let connection: SharedDescriptor
        let root: SharedDescriptor
        let journal: SharedDescriptor
        let state: SharedDescriptor
        /// By the keys of `DescriptorStore`.
        let unlinked: [UInt64: SharedDescriptor]
        private let names: [String]

        /// - Returns: nil if some are missing.
        init?(_ taken: [String: SharedDescriptor]) {
            guard let connection = taken.first(where: { $0.key.hasPrefix(Name.connection) }),
                let root = taken[Name.root], let journal = taken[Name.journal], let state = taken[Name.state]
            else { return nil }
            self.connection = connection.value
            (self.root, self.journal, self.state) = (root, journal, state)
            var unlinked: [UInt64: SharedDescriptor] = [:]
            for (name, descriptor) in taken where name.hasPrefix(Name.unlinked) {
                if let key = UInt64(name.dropFirst(Name.unlinked.count)) { unlinked[key] = descriptor }
            }
            self.unlinked = unlinked
            names = Array(taken.keys)
        }

        func belong(to mount: MountInfo) -> Bool { names.contains(KeptMount.connection(of: mount)) }

        /// Has the service manager drop them.
        func drop() { names.forEach(ServiceManager.drop) }
    }
}
