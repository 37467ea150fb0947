import Fuse
import Glibc

/// What is known of one inode that the kernel knows.
///
/// A node is described by where it was last seen, (parent, name), and by which file it is; a descriptor is only a
/// cache over that, except once its name is gone. There may be millions, so what few of them have is kept apart.
struct Node: Sendable {
    enum NameKind: Sendable {
        /// A file, directory or anything else of the backing tree.
        case backing(FileIdentity)
        case signal(SignalFile)
    }

    /// The root is its own parent.
    var parent: InodeNumber
    var name: NodeName
    /// What the kernel will give back by `forget`.
    var lookups: UInt64
    /// The slots of a doubly linked list of children, kept by `NodeTable`; 0 ends it.
    ///
    /// Children are found through their parent, so a node with children outlives the kernel's lookups.
    var firstChild: UInt32 = 0
    var nextSibling: UInt32 = 0
    var previousSibling: UInt32 = 0
    /// Somebody may change it through a mapping that the kernel tells nobody of.
    var mayBeMapped = false
    /// The file type; it never changes.
    let isDirectory: Bool
    /// Whether it has a `security.capability`.
    var capability = Capability.unknown

    enum Capability: UInt8 {
        case unknown
        case absent
        /// One has been set, or is being set.
        case possible
    }

    /// Of a signal file's node, of no file: number 0.
    private var file = Node.noFile
    /// Nanoseconds since 1970, or `unborn`.
    private var born = Node.unborn
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
            // Another file, of which nothing else is known yet.
            born = Self.unborn
            mayBeMapped = false
            hasChangedMeaning = true
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

    /// When a backing file was made, if that is known and can be relied on.
    var birth: Birth? {
        get { born == Self.unborn ? nil : Birth(nanosecondsSince1970: born) }
        set { born = newValue?.nanosecondsSince1970 ?? Self.unborn }
    }

    /// Whether it is the file that was found.
    func isOf(_ found: ExtendedStatus) -> Bool {
        found.isOf(identity, born: birth)
    }

    // MARK: What few nodes have

    private struct RareFields: Sendable {
        var signalFile: SignalFile?
        var signals: SignalDirectory?
        var descriptor: Descriptor?
        var handle: ExportHandle?
        var cacheSlot: Int?
        var placed: UInt64 = 0
        var isPinned = false
        var hasChangedMeaning = false
        var isAliased = false

        var isEmpty: Bool {
            signalFile == nil && signals == nil && descriptor == nil && handle == nil && cacheSlot == nil
                && placed == 0 && !isPinned && !hasChangedMeaning && !isAliased
        }
    }

    /// Never changed, only replaced: copies of a node are read without the store's lock.
    private final class Rare: Sendable {
        let fields: RareFields
        init(_ fields: RareFields) { self.fields = fields }
    }

    private mutating func changeRare(_ body: (inout RareFields) -> Void) {
        var fields = rare?.fields ?? RareFields()
        body(&fields)
        rare = fields.isEmpty ? nil : Rare(fields)
    }

    var signalFile: SignalFile? { rare?.fields.signalFile }

    /// The file was unlinked, so the descriptor is the only way to it.
    var isPinned: Bool {
        get { rare?.fields.isPinned ?? false }
        set { if newValue != isPinned { changeRare { $0.isPinned = newValue } } }
    }

    /// The inode has been both an ordinary file and a signal file.
    var hasChangedMeaning: Bool {
        get { rare?.fields.hasChangedMeaning ?? false }
        set { if newValue != hasChangedMeaning { changeRare { $0.hasChangedMeaning = newValue } } }
    }

    /// For a directory in or under which signal files can lie; nil for all others.
    var signals: SignalDirectory? {
        get { rare?.fields.signals }
        set { if newValue !== signals { changeRare { $0.signals = newValue } } }
    }

    /// An `O_PATH` descriptor of it, if one is at hand.
    var descriptor: Descriptor? {
        get { rare?.fields.descriptor }
        set { if newValue !== descriptor { changeRare { $0.descriptor = newValue } } }
    }

    /// A way back to it, once its descriptor has had to go.
    var handle: ExportHandle? {
        get { rare?.fields.handle }
        set { changeRare { $0.handle = newValue } }
    }

    /// Whether names in this directory can change through another path (`AliasedDirectories`).
    var isAliased: Bool {
        get { rare?.fields.isAliased ?? false }
        set { if newValue != isAliased { changeRare { $0.isAliased = newValue } } }
    }

    /// Where the descriptor stands in the cache's ring.
    var cacheSlot: Int? {
        get { rare?.fields.cacheSlot }
        set { if newValue != cacheSlot { changeRare { $0.cacheSlot = newValue } } }
    }

    /// When a rename last put it there, by the count of renames.
    ///
    /// What was seen before that is out of date.
    var placed: UInt64 {
        get { rare?.fields.placed ?? 0 }
        set { if newValue != placed { changeRare { $0.placed = newValue } } }
    }
}
