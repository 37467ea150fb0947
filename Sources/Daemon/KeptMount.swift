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
        static let directory = "directory-"

        static func unlinked(_ key: DescriptorStore.Key) -> String { "\(unlinked)\(key.mount)-\(key.number)" }

        /// One of the descriptors of a `DirectoryMount`.
        static func directory(_ mount: UInt64, _ index: Int) -> String { "\(directory)\(mount)-\(index)" }

        /// The numbers of such a name.
        static func numbers(_ name: String, after prefix: String) -> (UInt64, UInt64)? {
            let parts = name.dropFirst(prefix.count).split(separator: "-").compactMap { UInt64($0) }
            return name.hasPrefix(prefix) && parts.count == 2 ? (parts[0], parts[1]) : nil
        }
    }

    private static let delay: Duration = .seconds(1)

    /// The connection's name tells it from that of another mount of the town.
    private let connection: String
    private var unlinked: Set<DescriptorStore.Key> = []
    /// Mounts over directories, by number.
    private var directories: Set<UInt64> = []
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
    /// - Parameters:
    ///   - kept: What the worker has given the keeper to keep, by key.
    ///   - mounts: The mounts over directories.
    mutating func update(_ kept: [DescriptorStore.Key: SharedDescriptor], _ mounts: [DirectoryMount]) {
        deadline = nil
        for key in unlinked where kept[key] == nil { ServiceManager.drop(Name.unlinked(key)) }
        for (key, descriptor) in kept where !unlinked.contains(key) {
            ServiceManager.keep(descriptor.rawValue, as: Name.unlinked(key))
        }
        unlinked = Set(kept.keys)
        let current = Set(mounts.map(\.number))
        for number in directories.subtracting(current) { Self.directoryNames(number).forEach(ServiceManager.drop) }
        for mount in mounts where !directories.contains(mount.number) {
            for (name, descriptor) in zip(Self.directoryNames(mount.number), mount.descriptors) {
                ServiceManager.keep(descriptor, as: name)
            }
        }
        directories = current
    }

    private static func directoryNames(_ mount: UInt64) -> [String] {
        (0..<Int(DirectoryMount.descriptorCount)).map { Name.directory(mount, $0) }
    }

    /// Has the service manager drop everything, because the mount ends.
    func dropAll() {
        let names =
            [connection, Name.root, Name.journal, Name.state] + unlinked.map(Name.unlinked)
            + directories.flatMap(Self.directoryNames)
        names.forEach(ServiceManager.drop)
    }

    /// What the service manager has kept.
    struct Descriptors {
        let connection: SharedDescriptor
        let root: SharedDescriptor
        let journal: SharedDescriptor
        let state: SharedDescriptor
        /// By the keys of `DescriptorStore`.
        let unlinked: [DescriptorStore.Key: SharedDescriptor]
        /// The mounts over directories.
        let directories: [DirectoryMount]
        private let names: [String]

        /// - Returns: nil if some are missing.
        init?(_ taken: [String: SharedDescriptor]) {
            guard let connection = taken.first(where: { $0.key.hasPrefix(Name.connection) }),
                let root = taken[Name.root], let journal = taken[Name.journal], let state = taken[Name.state]
            else { return nil }
            self.connection = connection.value
            (self.root, self.journal, self.state) = (root, journal, state)
            var unlinked: [DescriptorStore.Key: SharedDescriptor] = [:]
            var numbers: Set<UInt64> = []
            for (name, descriptor) in taken {
                if let (mount, number) = Name.numbers(name, after: Name.unlinked) {
                    unlinked[DescriptorStore.Key(mount: mount, number: number)] = descriptor
                } else if let (mount, _) = Name.numbers(name, after: Name.directory) {
                    numbers.insert(mount)
                }
            }
            self.unlinked = unlinked
            directories = numbers.compactMap { number in
                try? DirectoryMount(KeptMount.directoryNames(number).compactMap { taken[$0] })
            }
            names = Array(taken.keys)
        }

        func belong(to mount: MountInfo) -> Bool { names.contains(KeptMount.connection(of: mount)) }

        /// Has the service manager drop them.
        func drop() { names.forEach(ServiceManager.drop) }
    }
}
