import Fuse
import Glibc

/// One inode that the kernel knows.
///
/// A node records which file it is and where that was last seen: parent and name. A descriptor is a cache of that,
/// except for an unlinked file. There may be millions of nodes, so rare fields live in a separate object.
struct Node: Sendable {
    enum NameKind: Sendable {
        /// Any type of file in the backing tree.
        case backing(FileIdentity)
        case signal(SignalFile)
    }

    /// The root is its own parent.
    var parent: InodeNumber { didSet { unrecorded = .all } }
    var name: NodeName { didSet { unrecorded = .all } }
    /// The kernel's lookup count, which `forget` reduces.
    var lookups: UInt64 { didSet { if unrecorded == .nothing { unrecorded = .lookups } } }
    /// The slots of a doubly linked list of children, kept by `NodeTable`; 0 ends it.
    ///
    /// Children are found through their parent, so a node with children outlives the kernel's lookups.
    var firstChild: UInt32 = 0
    var nextSibling: UInt32 = 0
    var previousSibling: UInt32 = 0
    /// A process may change it through a shared mapping without a request.
    var mayBeMapped = false { didSet { if mayBeMapped != oldValue { unrecorded = .all } } }
    /// The file type; it never changes.
    let isDirectory: Bool
    /// Whether the file has a `security.capability` attribute.
    var capability = Capability.unknown
    /// What `NodeRecords` does not hold yet.
    var unrecorded = Unrecorded.all

    enum Capability: UInt8 {
        case unknown
        case absent
        /// A request has set one, or is about to.
        case possible
    }

    enum Unrecorded: UInt8 {
        case nothing, lookups, all
    }

    /// `noFile` for a signal file.
    private var file = Node.noFile { didSet { if file != oldValue { unrecorded = .all } } }
    /// Nanoseconds since 1970, or `unborn`.
    private var born = Node.unborn { didSet { if born != oldValue { unrecorded = .all } } }
    private var rare: Rare?

    private static let noFile = FileIdentity(device: 0, number: 0)
    private static let unborn = Int64.min

    init(
        nameKind: NameKind, parent: InodeNumber, name: NodeName, lookups: UInt64, isDirectory: Bool = false,
        signals: SignalDirectory? = nil, descriptor: Descriptor? = nil, isPinned: Bool = false
    ) {
        self.isDirectory = isDirectory
        self.parent = parent
        self.name = name
        self.lookups = lookups
        switch nameKind {
        case .backing(let identity): file = identity
        case .signal(let signalFile): changeRare { $0.signalFile = signalFile }
        }
        if isPinned { self.isPinned = true }
        if signals != nil { self.signals = signals }
        if descriptor != nil { self.descriptor = descriptor }
    }

    var nameKind: NameKind {
        get { signalFile.map { .signal($0) } ?? .backing(file) }
        set {
            // A different file: forget what was known of the former one.
            born = Self.unborn
            mayBeMapped = false
            hasChangedKind = true
            capability = .unknown
            switch newValue {
            case .backing(let identity):
                file = identity
                if signalFile != nil { changeRare { $0.signalFile = nil } }
            case .signal(let signalFile):
                file = Self.noFile
                changeRare { $0.signalFile = signalFile }
            }
        }
    }

    var identity: FileIdentity? { file == Self.noFile ? nil : file }

    /// Creation time of a backing file; nil if unknown or unreliable.
    var birth: Birth? {
        get { born == Self.unborn ? nil : Birth(nanosecondsSince1970: born) }
        set { born = newValue?.nanosecondsSince1970 ?? Self.unborn }
    }

    /// Whether this is the node of the file that was found.
    func matches(_ found: ExtendedStatus) -> Bool { found.matches(identity, born: birth) }

    // MARK: Records

    /// As `NodeRecords` stores it.
    var recordedBirth: Int64 { born }

    var flags: NodeRecords.Flags {
        var flags: NodeRecords.Flags = .exists
        if isDirectory { flags.insert(.directory) }
        if mayBeMapped { flags.insert(.mapped) }
        return flags.union(rare?.fields.flags ?? [])
    }

    /// A node of an earlier process.
    ///
    /// `signalFile`, `signals` and `descriptor` follow.
    init(_ restored: NodeRecords.Restored) {
        isDirectory = restored.flags.contains(.directory)
        parent = restored.parent
        name = restored.name
        lookups = restored.lookups
        file = restored.identity
        born = restored.birth
        mayBeMapped = restored.flags.contains(.mapped)
        let flags = restored.flags
        changeRare { fields in
            fields.isCurrent = flags.contains(.current)
            fields.isPinned = flags.contains(.pinned)
            fields.hasChangedKind = flags.contains(.changedKind)
            fields.isAliased = flags.contains(.aliased)
        }
        unrecorded = .nothing
    }

    /// Whether it is a signal file's; a restored node has no `signalFile` yet.
    var isSignal: Bool { file == Self.noFile }

    /// Sets the signal file of a restored node.
    mutating func restore(_ signalFile: SignalFile) {
        changeRare { $0.signalFile = signalFile }
        unrecorded = .nothing
    }

    // MARK: Rare fields

    private struct RareFields: Sendable {
        var signalFile: SignalFile?
        var signals: SignalDirectory?
        var descriptor: Descriptor?
        var handle: ExportHandle?
        var cacheSlot: Int?
        var renameGeneration: UInt64 = 0
        var isPinned = false
        var hasChangedKind = false
        var isAliased = false
        var isCurrent = false
        var isKept = false

        var flags: NodeRecords.Flags {
            var flags: NodeRecords.Flags = []
            if signalFile != nil { flags.insert(.signal) }
            if isCurrent { flags.insert(.current) }
            if isPinned { flags.insert(.pinned) }
            if hasChangedKind { flags.insert(.changedKind) }
            if isAliased { flags.insert(.aliased) }
            return flags
        }

        var isEmpty: Bool {
            signalFile == nil && signals == nil && descriptor == nil && handle == nil && cacheSlot == nil
                && renameGeneration == 0 && flags.isEmpty && !isKept
        }
    }

    /// Immutable, since copies of a node are read without the store's lock.
    private final class Rare: Sendable {
        let fields: RareFields
        init(_ fields: RareFields) { self.fields = fields }
    }

    private mutating func changeRare(_ body: (inout RareFields) -> Void) {
        var fields = rare?.fields ?? RareFields()
        let flags = fields.flags
        body(&fields)
        if flags != fields.flags { unrecorded = .all }
        rare = fields.isEmpty ? nil : Rare(fields)
    }

    var signalFile: SignalFile? { rare?.fields.signalFile }

    /// The file was unlinked, so the descriptor is the only way to it.
    var isPinned: Bool {
        get { rare?.fields.isPinned ?? false }
        set { if newValue != isPinned { changeRare { $0.isPinned = newValue } } }
    }

    /// The inode has been both an ordinary file and a signal file.
    var hasChangedKind: Bool {
        get { rare?.fields.hasChangedKind ?? false }
        set { if newValue != hasChangedKind { changeRare { $0.hasChangedKind = newValue } } }
    }

    /// For a directory in or under which signal files can lie; nil for all others.
    var signals: SignalDirectory? {
        get { rare?.fields.signals }
        set { if newValue !== signals { changeRare { $0.signals = newValue } } }
    }

    /// A cached `O_PATH` descriptor.
    var descriptor: Descriptor? {
        get { rare?.fields.descriptor }
        set { if newValue !== descriptor { changeRare { $0.descriptor = newValue } } }
    }

    /// An export handle, made when the descriptor was evicted from the cache.
    var handle: ExportHandle? {
        get { rare?.fields.handle }
        set { changeRare { $0.handle = newValue } }
    }

    /// Whether lookups of the signal file return this inode (`NodeStore.State.bySignal`).
    var isCurrent: Bool {
        get { rare?.fields.isCurrent ?? false }
        set { if newValue != isCurrent { changeRare { $0.isCurrent = newValue } } }
    }

    /// Whether names in this directory can change through another path (`AliasedDirectories`).
    var isAliased: Bool {
        get { rare?.fields.isAliased ?? false }
        set { if newValue != isAliased { changeRare { $0.isAliased = newValue } } }
    }

    /// Whether the keeper holds its descriptor (`DescriptorStore`).
    var isKept: Bool {
        get { rare?.fields.isKept ?? false }
        set { if newValue != isKept { changeRare { $0.isKept = newValue } } }
    }

    /// The descriptor's index in `NodeStore.State.ring`.
    var cacheSlot: Int? {
        get { rare?.fields.cacheSlot }
        set { if newValue != cacheSlot { changeRare { $0.cacheSlot = newValue } } }
    }

    /// The generation of the rename that last moved the file; names looked up before that are out of date.
    var renameGeneration: UInt64 {
        get { rare?.fields.renameGeneration ?? 0 }
        set { if newValue != renameGeneration { changeRare { $0.renameGeneration = newValue } } }
    }
}
