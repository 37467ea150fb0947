import Liveness

/// The patterns of paths that make files signal files.
///
/// A pattern is a path relative to the town root. Each component is a shell pattern: `*` matches any bytes, `?` one,
/// `[a-z_]` one of a set and `[!a-z]` one of the others; a leading dot must be written out. A component `**` matches any
/// number of directories, also none, but no hidden one. Names are bytes: `?` is a byte of UTF-8. There is no escape
/// character; `[*]` matches a star. `{id}` in one component matches one or more bytes, which are the id of the runtime that
/// the file belongs to. Between two `**` it is the last directory that can be it.
///
/// No path is matched as a whole. Each directory of the file system has a `Scope`, made from its parent's at lookup. For
/// nearly every directory it is empty: nothing in it or under it can be a signal file.
///
///     town/            root           .runtime/keepalive.json │ daemon/activity.json
///     town/daemon/     entering       activity.json
///     town/src/        entering       (empty)
package struct SignalPatterns: Sendable {
    /// A `Signal` with its patterns compiled.
    fileprivate final class Rule: Hashable, Sendable {
        let signal: Signal
        private let excluded: [Glob]

        init(_ signal: Signal) throws(Invalid) {
            self.signal = signal
            var excluded: [Glob] = []
            for pattern in signal.excluded {
                do throws(Invalid.Reason) {
                    guard !pattern.isEmpty else { throw .empty }
                    guard !pattern.contains("/") else { throw .excludedPath }
                    let glob = try Glob(Array(pattern.utf8))
                    guard !glob.hasID else { throw .braces }
                    excluded.append(glob)
                } catch {
                    throw Invalid(pattern: pattern, reason: error)
                }
            }
            self.excluded = excluded
        }

        func excludes(_ name: some Collection<UInt8>) -> Bool { excluded.contains { $0.matches(name) } }

        static func == (first: Rule, second: Rule) -> Bool { first === second }

        func hash(into hasher: inout Hasher) { hasher.combine(ObjectIdentifier(self)) }
    }

    /// The scope of the town root.
    package let root: Scope
    /// The last component of each pattern.
    private let lastNames: [Glob]

    /// - Parameter signals: The first one that matches a path decides.
    package init(_ signals: [Signal]) throws(Invalid) {
        var root = Scope()
        var lastNames: [Glob] = []
        for signal in signals {
            let components = try Self.components(of: signal.pattern)
            root.add(Scope.Remainder(rule: try Rule(signal), components: components[...]))
            if case .name(let glob) = components.last, !lastNames.contains(glob) { lastNames.append(glob) }
        }
        self.root = root
        self.lastNames = lastNames
    }

    /// Whether a signal file could have this name in some directory.
    package func canEnd(in name: some Collection<UInt8>) -> Bool {
        lastNames.contains { $0.matches(name) }
    }

    /// The rule of a signal file, by its path relative to the town; nil for any other file.
    package func match(path: [UInt8]) -> Match? {
        let names = path.split(separator: UInt8(ascii: "/"))
        guard let last = names.last else { return nil }
        return names.dropLast().reduce(root) { $0.entering($1) }.match(last)
    }

    /// The rule of a signal file.
    package struct Match: Sendable {
        package let signal: Signal
        /// The bytes that `{id}` stands for.
        let id: ArraySlice<UInt8>?

        /// The runtime that the path names; nil if there is no `{id}`, or if its bytes are no valid id.
        package var runtime: RuntimeID? { id.flatMap { try? RuntimeID(bytes: $0) } }
    }

    /// The rests of the patterns to be matched in one directory.
    package struct Scope: Hashable, Sendable {
        fileprivate struct Remainder: Hashable, Sendable {
            let rule: Rule
            var components: ArraySlice<Component>
            /// What `{id}` has matched in a directory's name.
            var id: ArraySlice<UInt8>?
        }

        /// A pattern with `**` may have several.
        private var remainders: [Remainder] = []

        fileprivate init() {}

        package var isEmpty: Bool { remainders.isEmpty }

        /// Whether an entry of this directory itself can be a signal file.
        package var hasSignals: Bool { remainders.contains { $0.components.count == 1 } }

        /// The scope of a directory in this one.
        ///
        /// - Parameter passingStars: Whether `**` may match it.
        package func entering(_ name: some Collection<UInt8>, passingStars: Bool = true) -> Scope {
            var child = Scope()
            for remainder in remainders {
                switch remainder.components.first {
                case .directories where passingStars && !name.isHidden: child.add(remainder)
                case .name(let glob) where remainder.components.count > 1 && glob.matches(name):
                    var rest = remainder
                    rest.components.removeFirst()
                    rest.id = remainder.id ?? glob.id(in: name)
                    child.add(rest)
                default: break
                }
            }
            // Under `**` most directories have their parent's scope. One array serves them all.
            return child == self ? self : child
        }

        /// Whether an entry of this name in this directory is a signal file.
        package func matches(_ name: some Collection<UInt8>) -> Bool { remainder(matching: name) != nil }

        /// The rule of the entry of this name in this directory; nil if that is no signal file.
        package func match(_ name: some Collection<UInt8>) -> Match? {
            guard let remainder = remainder(matching: name), case .name(let glob) = remainder.components.first else {
                return nil
            }
            return Match(signal: remainder.rule.signal, id: remainder.id ?? glob.id(in: name))
        }

        private func remainder(matching name: some Collection<UInt8>) -> Remainder? {
            remainders.first { remainder in
                guard remainder.components.count == 1, case .name(let glob) = remainder.components.first else {
                    return false
                }
                return glob.matches(name) && !remainder.rule.excludes(name)
            }
        }

        /// Adds a remainder, and that with `**` matching no directory.
        fileprivate mutating func add(_ remainder: Remainder) {
            guard !remainders.contains(remainder) else { return }
            remainders.append(remainder)
            guard remainder.components.first == .directories else { return }
            var rest = remainder
            rest.components.removeFirst()
            add(rest)
        }
    }

    /// Why `--scope=signals` cannot be used with a pattern; nil if it can.
    package static func objectionToCovering(_ pattern: String) -> String? {
        guard let components = try? components(of: pattern) else { return nil }
        if components.contains(.directories) {
            return "** may stand for any directory of the town, and not all of them are watched. "
                + "Write out where they are, with * for a name: */polecats/*/.runtime/keepalive.json"
        }
        if components.count == 1 {
            return "it is about files in the town root itself, so that all of the town would have to be covered"
        }
        if case .name(let glob) = components[0], glob.matches(Array(".pulse".utf8)) { return ".pulse is pulsefs's own" }
        return nil
    }
}

// MARK: - Compiling

extension SignalPatterns {
    /// A pattern that could never match, or not what its author meant.
    package struct Invalid: Error, Hashable, CustomStringConvertible {
        package enum Reason: String, Error {
            case empty = "it is empty"
            case absolute = "it must be relative to the town, so must not start with a slash"
            case trailingSlash = "it must name files, so must not end with a slash"
            case emptyComponent = "it has two slashes in a row"
            case dots = "it must not have a component . or .."
            case starsInName = "** must be a component of its own"
            case starsAtEnd = "it must name files, so must not end with **"
            case openBracket = "a [ is not closed"
            case backwardRange = "a range in brackets runs backwards"
            case braces = "a { or } is only for {id}, once; write [{] for the character"
            case starBesideID = "a name with {id} must not have a * beside it"
            case excludedPath = "what is excluded is a file's name, so must not have a slash"
        }

        package let pattern: String
        package let reason: Reason

        package var description: String { "The signal pattern '\(pattern)' cannot be used: \(reason.rawValue)." }
    }

    private static func components(of pattern: String) throws(Invalid) -> [Component] {
        func invalid(_ reason: Invalid.Reason) -> Invalid { Invalid(pattern: pattern, reason: reason) }

        let texts = pattern.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        guard !pattern.isEmpty else { throw invalid(.empty) }
        guard texts.first?.isEmpty == false else { throw invalid(.absolute) }
        guard texts.last?.isEmpty == false else { throw invalid(.trailingSlash) }

        var components: [Component] = []
        for text in texts {
            let text = Array(text)
            switch text {
            case []: throw invalid(.emptyComponent)
            case Array(".".utf8), Array("..".utf8): throw invalid(.dots)
            case Array("**".utf8):
                // Two in a row match what one does.
                if components.last != .directories { components.append(.directories) }
            default:
                do {
                    components.append(.name(try Glob(text)))
                } catch {
                    throw invalid(error)
                }
            }
        }
        guard components.last != .directories else { throw invalid(.starsAtEnd) }
        guard components.count(where: \.hasID) <= 1 else { throw invalid(.braces) }
        return components
    }
}

private enum Component: Hashable {
    /// `**`
    case directories
    case name(Glob)

    var hasID: Bool { if case .name(let glob) = self { glob.hasID } else { false } }
}

/// The pattern of one name.
private struct Glob: Hashable {
    private enum Part: Hashable {
        /// `*`
        case anyBytes
        /// `{id}`: one or more bytes.
        case id
        /// A byte, `?` or `[…]`.
        case oneOf(ByteSet)
    }

    private let parts: [Part]
    /// Whether the pattern starts with a dot.
    private let matchesHidden: Bool

    init(_ text: [UInt8]) throws(SignalPatterns.Invalid.Reason) {
        var parts: [Part] = []
        var rest = text[...]
        while let byte = rest.popFirst() {
            switch Unicode.Scalar(byte) {
            case "*":
                guard rest.first != UInt8(ascii: "*") else { throw .starsInName }
                parts.append(.anyBytes)
            case "{":
                guard rest.starts(with: "id}".utf8), !parts.contains(.id) else { throw .braces }
                rest.removeFirst(3)
                parts.append(.id)
            case "}": throw .braces
            case "?": parts.append(.oneOf(ByteSet(0...UInt8.max)))
            case "[": parts.append(.oneOf(try Self.bracket(&rest)))
            default: parts.append(.oneOf(ByteSet(byte...byte)))
            }
        }
        guard !parts.contains(.id) || !parts.contains(.anyBytes) else { throw .starBesideID }
        self.parts = parts
        matchesHidden = text.isHidden
    }

    var hasID: Bool { parts.contains(.id) }

    /// The bytes of a matching name that `{id}` stands for; nil without `{id}`.
    func id(in name: some Collection<UInt8>) -> ArraySlice<UInt8>? {
        // All other parts are one byte long.
        parts.firstIndex(of: .id).map { Array(name)[$0..<(name.count - (parts.count - 1 - $0))] }
    }

    /// Reads a set up to its closing bracket; a `]` at its start, or a `-` at either end, is a member.
    private static func bracket(_ rest: inout ArraySlice<UInt8>) throws(SignalPatterns.Invalid.Reason) -> ByteSet {
        let isInverted = rest.first == UInt8(ascii: "!") || rest.first == UInt8(ascii: "^")
        if isInverted { rest.removeFirst() }
        var set = ByteSet()
        var isAtStart = true
        while let first = rest.popFirst() {
            if first == UInt8(ascii: "]"), !isAtStart { return isInverted ? set.inverted : set }
            isAtStart = false
            var last = first
            if rest.first == UInt8(ascii: "-"), let end = rest.dropFirst().first, end != UInt8(ascii: "]") {
                last = end
                rest.removeFirst(2)
            }
            guard first <= last else { throw .backwardRange }
            set.insert(first...last)
        }
        throw .openBracket
    }

    /// Whether the whole name matches.
    ///
    /// Takes at most the product of both lengths: after a mismatch only the last star is extended by one byte.
    func matches<Name: Collection<UInt8>>(_ name: Name) -> Bool {
        guard matchesHidden || !name.isHidden else { return false }
        if let id = parts.firstIndex(of: .id) {
            return name.count >= parts.count && Self.match(parts[..<id], name.prefix(id))
                && Self.match(parts[(id + 1)...], name.suffix(parts.count - 1 - id))
        }
        var part = 0
        var position = name.startIndex
        var star: (part: Int, end: Name.Index)?
        while position != name.endIndex {
            if part < parts.count, case .anyBytes = parts[part] {
                part += 1
                star = (part, position)
            } else if part < parts.count, case .oneOf(let bytes) = parts[part], bytes.contains(name[position]) {
                part += 1
                name.formIndex(after: &position)
            } else if let last = star {
                position = name.index(after: last.end)
                part = last.part
                star = (part, position)
            } else {
                return false
            }
        }
        return parts[part...].allSatisfy { $0 == .anyBytes }
    }

    /// Whether parts of one byte each match as many bytes.
    private static func match(_ parts: ArraySlice<Part>, _ bytes: some Collection<UInt8>) -> Bool {
        zip(parts, bytes).allSatisfy { part, byte in
            if case .oneOf(let set) = part { set.contains(byte) } else { false }
        }
    }
}

/// A set of bytes, one bit each.
private struct ByteSet: Hashable {
    private var bits: SIMD4<UInt64> = .zero

    init() {}

    init(_ range: ClosedRange<UInt8>) {
        insert(range)
    }

    mutating func insert(_ range: ClosedRange<UInt8>) {
        for byte in range { bits[Int(byte >> 6)] |= 1 << UInt64(byte & 63) }
    }

    func contains(_ byte: UInt8) -> Bool {
        bits[Int(byte >> 6)] & 1 << UInt64(byte & 63) != 0
    }

    var inverted: ByteSet {
        var set = self
        set.bits = ~bits
        return set
    }
}

extension Collection<UInt8> {
    fileprivate var isHidden: Bool { first == UInt8(ascii: ".") }
}
