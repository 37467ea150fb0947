/// One of the agents of a Gas Town, by the role it plays.
///
/// The same agent is spelled in several ways: by address (`gastown/nux`, `gastown-witness`), by the directory it works
/// in, by its session (see `SessionNames`). Names are taken from there as they stand; `runtime` judges them.
enum Agent: Hashable {
    typealias Name = ArraySlice<UInt8>

    case mayor, deacon, boot, daemon
    case dog(Name)
    case witness(rig: Name)
    case refinery(rig: Name)
    case polecat(Name, rig: Name)
    case pool(Name, rig: Name)

    /// The agent's one canonical id; nil if a name in it cannot stand there.
    var runtime: RuntimeID? {
        switch self {
        case .mayor: Self.id("mayor")
        case .deacon: Self.id("deacon")
        // The watchdog works where the dogs do, but is spoken of by a name of its own.
        case .boot, .dog("boot"): Self.id("deacon/boot")
        case .daemon: Self.id("daemon")
        case .dog(let name): Self.id("deacon/dogs/", name)
        case .witness(let rig): Self.id(rig: rig, "/witness")
        case .refinery(let rig): Self.id(rig: rig, "/refinery")
        case .polecat(let name, let rig): Self.id(rig: rig, "/polecats/", name)
        case .pool(let name, let rig): Self.id(rig: rig, "/crew/", name)
        }
    }

    /// The worker that `rig/name` or `<prefix>-name` means: a polecat, unless the name is a word that says something
    /// else.
    init?(worker name: Name, rig: Name) {
        guard !Self.isReserved(name) else { return nil }
        self = .polecat(name, rig: rig)
    }

    private static func id(_ start: StaticString, _ name: Name = []) -> RuntimeID? {
        guard !name.contains(UInt8(ascii: "/")) else { return nil }
        return try? RuntimeID(bytes: Array(start) + name)
    }

    private static func id(rig: Name, _ role: StaticString, _ name: Name = []) -> RuntimeID? {
        // What begins with a dot lies hidden in the town and is no rig.
        guard !isReserved(rig), rig.first != UInt8(ascii: "."), !rig.contains(UInt8(ascii: "/")),
            !name.contains(UInt8(ascii: "/"))
        else { return nil }
        return try? RuntimeID(bytes: rig + Array(role) + name)
    }

    /// Whether a name has its own meaning where a rig's or a worker's might stand.
    private static func isReserved(_ name: Name) -> Bool {
        switch name {
        case "mayor", "deacon", "daemon", "dogs", "witness", "refinery", "polecats", "crew": true
        default: false
        }
    }
}

// MARK: - Addresses

extension Agent {
    /// Reads the form that `GT_ROLE`, `BD_ACTOR` and a document's `actor` share.
    ///
    /// White space around it, doubled slashes and one at the end are overlooked. Nil for a role that needs more than an
    /// address to be somebody, such as `polecat`, and for whatever else is written there, such as a person's name.
    init?(address: some Collection<UInt8>) {
        self.init(address: Self.parts(of: address))
    }

    /// Splits an address at its slashes; empty if it begins with one or is longer than any id.
    static func parts(of address: some Collection<UInt8>) -> [Name] {
        guard address.count <= RuntimeID.maximumLength else { return [] }
        let address = Array(address)[...].trimmed
        guard address.first != UInt8(ascii: "/") else { return [] }
        return address.split(separator: UInt8(ascii: "/"))
    }

    init?(address parts: [Name]) {
        switch parts.count {
        case 1:
            self.init(word: parts[0])
        case 2:
            switch (parts[0], parts[1]) {
            case ("deacon", "boot"): self = .boot
            case (let rig, "witness"): self = .witness(rig: rig)
            case (let rig, "refinery"): self = .refinery(rig: rig)
            case (let rig, let name): self.init(worker: name, rig: rig)
            }
        case 3:
            switch (parts[0], parts[1]) {
            case ("deacon", "dogs"): self = .dog(parts[2])
            case (let rig, "polecats"): self = .polecat(parts[2], rig: rig)
            case (let rig, "crew"): self = .pool(parts[2], rig: rig)
            default: return nil
            }
        default:
            return nil
        }
    }

    /// Reads an address without slashes, in which a dash may stand for one.
    private init?(word: Name) {
        switch word {
        case "mayor": self = .mayor
        case "deacon": self = .deacon
        case "boot", "deacon-boot": self = .boot
        case "daemon": self = .daemon
        default:
            if let rig = word.dropping(suffix: "-witness") {
                self = .witness(rig: rig)
            } else if let rig = word.dropping(suffix: "-refinery") {
                self = .refinery(rig: rig)
            } else if let (rig, name) = word.parted(at: "-crew-") {
                self = .pool(name, rig: rig)
            } else {
                return nil
            }
        }
    }
}

// MARK: - Directories

extension Agent {
    /// Reads a working directory, relative to the town, as `/proc/<pid>/cwd` gives it.
    ///
    /// Nobody works at the town's root or at a rig's, nor in a rig's `mayor/rig`, which all of the rig share.
    init?(directory: [UInt8]) {
        let path = directory[...].dropping(suffix: " (deleted)") ?? directory[...]
        let parts = path.split(separator: UInt8(ascii: "/"))
        guard path.first != UInt8(ascii: "/"), !parts.contains(where: { ".." ~= $0 }) else { return nil }
        switch (parts.first, parts.dropFirst().first, parts.dropFirst(2).first) {
        case ("mayor"?, _, _): self = .mayor
        case ("deacon"?, "dogs"?, let name?): self = .dog(name)
        case ("deacon"?, _, _): self = .deacon
        case (let rig?, "witness"?, _): self = .witness(rig: rig)
        case (let rig?, "refinery"?, _): self = .refinery(rig: rig)
        case (let rig?, "polecats"?, let name?): self = .polecat(name, rig: rig)
        case (let rig?, "crew"?, let name?): self = .pool(name, rig: rig)
        default: return nil
        }
    }
}

// MARK: - Words among bytes

extension ArraySlice<UInt8> {
    /// Lets a `switch` over bytes have words for its cases.
    static func ~= (word: StaticString, bytes: Self) -> Bool {
        word.withUTF8Buffer { bytes.elementsEqual($0) }
    }

    /// Without the white space at both ends, which is ASCII's.
    var trimmed: Self {
        let isBlank = { (byte: UInt8) in byte == 0x20 || 0x09...0x0D ~= byte }
        guard let start = firstIndex(where: { !isBlank($0) }), let last = lastIndex(where: { !isBlank($0) }) else {
            return []
        }
        return self[start...last]
    }

    /// What stands before `suffix`; nil if the bytes do not end with it.
    func dropping(suffix: StaticString) -> Self? {
        suffix ~= self.suffix(suffix.utf8CodeUnitCount) ? dropLast(suffix.utf8CodeUnitCount) : nil
    }

    /// What stands before the first `separator` and after it; nil if there is none.
    func parted(at separator: StaticString) -> (Self, Self)? {
        let length = separator.utf8CodeUnitCount
        guard count >= length,
            let start = (startIndex...endIndex - length).first(where: { separator ~= self[$0..<$0 + length] })
        else { return nil }
        return (self[..<start], self[(start + length)...])
    }
}

extension [UInt8] {
    fileprivate init(_ text: StaticString) {
        self = text.withUTF8Buffer { Array($0) }
    }
}
