/// An agent of a Gas Town, by its role.
///
/// Parsed from an address (`gastown/nux`, `gastown-witness`), a working directory, or a session name (`SessionNames`).
/// Names are not validated before `runtime`. They are narrower than those in other ids: `[A-Za-z0-9_.-]`. So a person's
/// name is no agent.
enum Agent: Hashable {
    typealias Name = ArraySlice<UInt8>

    case mayor, deacon, boot, daemon
    case dog(Name)
    case witness(rig: Name)
    case refinery(rig: Name)
    case polecat(Name, rig: Name)
    case crew(Name, rig: Name)

    /// The agent's canonical id; nil if a name in it is not valid.
    var runtime: RuntimeID? {
        switch self {
        case .mayor: Self.id("mayor")
        case .deacon: Self.id("deacon")
        // The watchdog works in the dogs' directory but has its own id.
        case .boot, .dog("boot"): Self.id("deacon/boot")
        case .daemon: Self.id("daemon")
        case .dog(let name): Self.id("deacon/dogs/", name)
        case .witness(let rig): Self.id(rig: rig, "/witness")
        case .refinery(let rig): Self.id(rig: rig, "/refinery")
        case .polecat(let name, let rig): Self.id(rig: rig, "/polecats/", name)
        case .crew(let name, let rig): Self.id(rig: rig, "/crew/", name)
        }
    }

    /// The worker of `rig/name` or `<prefix>-name`: a polecat, unless the name is a reserved word.
    init?(worker name: Name, rig: Name) {
        guard !Self.isReserved(name) else { return nil }
        self = .polecat(name, rig: rig)
    }

    private static func id(_ start: StaticString, _ name: Name? = nil) -> RuntimeID? {
        guard name.map(isName) ?? true else { return nil }
        return try? RuntimeID(bytes: Array(start) + (name ?? []))
    }

    private static func id(rig: Name, _ role: StaticString, _ name: Name? = nil) -> RuntimeID? {
        // A hidden directory is not a rig.
        guard !isReserved(rig), rig.first != UInt8(ascii: "."), isName(rig), name.map(isName) ?? true else {
            return nil
        }
        return try? RuntimeID(bytes: rig + Array(role) + (name ?? []))
    }

    /// Whether an agent or a rig may have the name.
    private static func isName(_ name: Name) -> Bool {
        !name.isEmpty && name.allSatisfy(RuntimeID.isAllowedInName) && !("." ~= name) && !(".." ~= name)
    }

    /// Whether a name has a meaning of its own in place of a rig's or a worker's.
    private static func isReserved(_ name: Name) -> Bool {
        switch name {
        case "mayor", "deacon", "daemon", "dogs", "witness", "refinery", "polecats", "crew": true
        default: false
        }
    }
}

// MARK: - Addresses

extension Agent {
    /// Parses the address in `GT_ROLE`, `BD_ACTOR` and a document's `actor`.
    ///
    /// Ignores surrounding white space, repeated slashes and a trailing slash. Nil for a role that needs more than an
    /// address, such as `polecat`, and for any other text, such as a person's name.
    init?(address: some Collection<UInt8>) {
        self.init(address: Self.parts(of: address))
    }

    /// The parts between slashes; empty if the address starts with a slash or is longer than any id.
    static func parts(of address: some Collection<UInt8>) -> [Name] {
        guard address.count <= RuntimeID.maximumLength else { return [] }
        let address = Array(address)[...].trimmed
        guard address.first != UInt8(ascii: "/") else { return [] }
        return address.split(separator: UInt8(ascii: "/"))
    }

    init?(address parts: [Name]) {
        switch (parts.count, parts.first, parts.dropFirst().first, parts.last) {
        case (1, let word?, _, _): self.init(word: word)
        case (2, "deacon"?, "boot"?, _): self = .boot
        case (2, let rig?, "witness"?, _): self = .witness(rig: rig)
        case (2, let rig?, "refinery"?, _): self = .refinery(rig: rig)
        case (2, let rig?, let name?, _): self.init(worker: name, rig: rig)
        case (3, "deacon"?, "dogs"?, let name?): self = .dog(name)
        case (3, let rig?, "polecats"?, let name?): self = .polecat(name, rig: rig)
        case (3, let rig?, "crew"?, let name?): self = .crew(name, rig: rig)
        default: return nil
        }
    }

    /// Parses an address without slashes, in which a dash may replace one.
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
            } else {
                guard let (rig, name) = word.split(atFirst: "-crew-") else { return nil }
                self = .crew(name, rig: rig)
            }
        }
    }
}

// MARK: - Directories

extension Agent {
    /// Parses a working directory, relative to the town, as in `/proc/<pid>/cwd`.
    ///
    /// Nil for the town's root, a rig's root, and a rig's `mayor/rig`, which the whole rig shares.
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
        case (let rig?, "crew"?, let name?): self = .crew(name, rig: rig)
        default: return nil
        }
    }
}

// MARK: - Matching bytes

extension ArraySlice<UInt8> {
    /// Allows string literals as patterns in a `switch` over bytes.
    static func ~= (text: StaticString, bytes: Self) -> Bool {
        text.withUTF8Buffer { bytes.elementsEqual($0) }
    }

    /// Without ASCII white space at both ends.
    var trimmed: Self {
        let isBlank = { (byte: UInt8) in byte == 0x20 || 0x09...0x0D ~= byte }
        guard let start = firstIndex(where: { !isBlank($0) }), let last = lastIndex(where: { !isBlank($0) }) else {
            return []
        }
        return self[start...last]
    }

    /// The bytes before `suffix`; nil if they do not end with it.
    func dropping(suffix: StaticString) -> Self? {
        suffix ~= self.suffix(suffix.utf8CodeUnitCount) ? dropLast(suffix.utf8CodeUnitCount) : nil
    }

    /// The bytes before and after the first `separator`; nil if there is none.
    func split(atFirst separator: StaticString) -> (Self, Self)? {
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
