import Liveness
import TownFS

/// Makes a preset of a JSON text, and collects all that is wrong with it.
struct PresetDecoder {
    /// Sentences, with the offsets of what they are about.
    private(set) var errors: [(offset: Int, message: String)] = []

    /// The value of `identities`.
    static let gasTown = "gastown"

    /// In bytes; longer strings help nobody.
    private static let maximumLength = 1024

    /// Nil if there are errors, at the latest.
    mutating func preset(_ root: LocatedJSON) -> Preset? {
        guard
            let members = members(
                of: root, "A preset", ["name", "summary", "identities", "signals", "variables", "helpers"])
        else { return nil }
        let name = name(members["name"], of: root)
        var preset = Preset(name: name ?? "")
        if let summary = members["summary"] { preset.summary = string(summary, "summary", isEmptyAllowed: true) ?? "" }
        if let identities = members["identities"], let text = string(identities, "identities") {
            preset.isGasTown = text == Self.gasTown
            if text != Self.gasTown {
                report(identities.offset, "There are no identities '\(text)'. Known are: \(Self.gasTown).")
            }
        }
        preset.signals = signals(members["signals"])
        preset.variables = strings(members["variables"], "variables") { $0.variableObjection }
        preset.helpers = helpers(members["helpers"])
        if errors.isEmpty, preset.signals.isEmpty, preset.variables.isEmpty, preset.helpers.isEmpty, !preset.isGasTown {
            report(root.offset, "A preset needs signals, variables, helpers or identities.")
        }
        return preset
    }

    private mutating func report(_ offset: Int, _ message: String) {
        errors.append((offset, message))
    }

    private mutating func name(_ node: LocatedJSON?, of root: LocatedJSON) -> String? {
        guard let node else {
            report(root.offset, "A preset needs a name.")
            return nil
        }
        guard let name = string(node, "name") else { return nil }
        // It is typed on command lines, and separated by commas in -o.
        let isValid = name.utf8.allSatisfy(RuntimeID.isAllowedInName) && name.first != "-" && name.utf8.count <= 64
        if !isValid {
            report(node.offset, "A name has up to 64 letters, digits and _ . - and does not begin with a hyphen.")
        }
        return name
    }

    // MARK: Signals

    private mutating func signals(_ node: LocatedJSON?) -> [Signal] {
        var signals: [Signal] = []
        var paths: Set<String> = []
        for element in elements(of: node, "signals") {
            guard
                let members = members(
                    of: element, "A signal",
                    ["path", "kind", "ttl", "exclude", "id", "state", "timestamp", "pid", "start"])
            else { continue }
            guard let path = members["path"] else {
                report(element.offset, "A signal needs a path.")
                _ = signal(members, path: nil)
                continue
            }
            let pattern = string(path, "path")
            if let pattern {
                checkPatterns(of: Signal(document: pattern), at: path.offset)
                if !paths.insert(pattern).inserted { report(path.offset, "The path '\(pattern)' is given twice.") }
            }
            if let signal = signal(members, path: pattern) { signals.append(signal) }
        }
        return signals
    }

    /// Nil without a path, or if the parts do not fit together.
    private mutating func signal(_ members: [String: LocatedJSON], path: String?) -> Signal? {
        var isKindKnown = true
        var kind = SignalKind.document
        if let node = members["kind"] {
            let known = string(node, "kind").flatMap { text in
                let kind = SignalKind(rawValue: text)
                if kind == nil { report(node.offset, .unknownKind(text)) }
                return kind
            }
            isKindKnown = known != nil
            kind = known ?? kind
        }
        var ttl: Duration?
        if let node = members["ttl"], let text = string(node, "ttl") {
            do throws(UnreadableDuration) {
                ttl = try Duration(spelled: text)
            } catch {
                report(node.offset, "The ttl cannot be used: \(error)")
            }
        }
        var excluded: [String] = []
        for element in elements(of: members["exclude"], "exclude") {
            guard let pattern = string(element, "exclude", isElement: true) else { continue }
            var signal = Signal(document: "x")
            signal.excluded = [pattern]
            checkPatterns(of: signal, at: element.offset)
            excluded.append(pattern)
        }
        var fields = Signal.Fields.none
        let names: KeyValuePairs<String, WritableKeyPath<Signal.Fields, String?>> = [
            "id": \.id, "state": \.state, "timestamp": \.timestamp, "pid": \.pid, "start": \.start,
        ]
        for (name, field) in names {
            guard let node = members[name] else { continue }
            fields[keyPath: field] = string(node, name)
            if isKindKnown, kind != .json { report(node.offset, .fieldsOfNoJSON(kind)) }
        }
        if let start = members["start"], members["pid"] == nil {
            report(start.offset, "'start' needs 'pid', the field with the number of the process.")
        }
        return path.flatMap { try? Signal($0, kind: kind, ttl: ttl, excluding: excluded, fields: fields) }
    }

    private mutating func report(_ offset: Int, _ invalid: Signal.Invalid) {
        let text = invalid.description
        report(offset, text.prefix(1).uppercased() + text.dropFirst() + ".")
    }

    /// - Parameter signal: With one pattern that may be wrong.
    private mutating func checkPatterns(of signal: Signal, at offset: Int) {
        do throws(SignalPatterns.Invalid) {
            _ = try SignalPatterns([signal])
        } catch {
            report(offset, error.description)
        }
    }

    // MARK: Helpers

    private mutating func helpers(_ node: LocatedJSON?) -> [HelperProgram] {
        var helpers: [HelperProgram] = []
        for element in elements(of: node, "helpers") {
            guard let members = members(of: element, "A helper", ["program", "variable", "subcommands"]) else {
                continue
            }
            if members["program"] == nil { report(element.offset, "A helper needs a program.") }
            var helper = HelperProgram("")
            if let node = members["program"], let name = string(node, "program") {
                helper.program = name
                if name.contains("/") { report(node.offset, "A program is named without its directory.") }
            }
            if let node = members["variable"], let name = string(node, "variable") {
                helper.variable = name
                if let objection = name.variableObjection { report(node.offset, objection) }
            }
            helper.subcommands = strings(members["subcommands"], "subcommands") {
                $0.hasPrefix("-") ? "A subcommand is no option, so must not begin with a hyphen." : nil
            }
            helpers.append(helper)
        }
        return helpers
    }

    // MARK: Values

    /// The members of an object by name; nil if it is none.
    private mutating func members(
        of node: LocatedJSON, _ what: String, _ known: [String]
    ) -> [String: LocatedJSON]? {
        guard case .object(let members) = node.value else {
            report(node.offset, "\(what) must be an object in braces, not \(node.kind).")
            return nil
        }
        var found: [String: LocatedJSON] = [:]
        for member in members {
            if !known.contains(member.name) {
                let list = known.dropLast().joined(separator: ", ") + " and \(known[known.count - 1])"
                report(member.offset, "\(what) has no '\(member.name.shortened)'. Known are \(list).")
            } else if found.updateValue(member.value, forKey: member.name) != nil {
                report(member.offset, "'\(member.name)' is given twice.")
            }
        }
        return found
    }

    /// The elements of an array; empty for nil and for any other value.
    private mutating func elements(of node: LocatedJSON?, _ name: String) -> [LocatedJSON] {
        guard let node else { return [] }
        guard case .array(let elements) = node.value else {
            report(node.offset, "'\(name)' must be an array in brackets, not \(node.kind).")
            return []
        }
        return elements
    }

    private mutating func strings(
        _ node: LocatedJSON?, _ name: String, objection: (String) -> String?
    ) -> [String] {
        var strings: [String] = []
        var seen: Set<String> = []
        for element in elements(of: node, name) {
            guard let text = string(element, name, isElement: true) else { continue }
            if let objection = objection(text) { report(element.offset, objection) }
            if !seen.insert(text).inserted { report(element.offset, "'\(text)' is given twice.") }
            strings.append(text)
        }
        return strings
    }

    /// Nil for a string that must not be used; it has been reported.
    private mutating func string(
        _ node: LocatedJSON, _ name: String, isElement: Bool = false, isEmptyAllowed: Bool = false
    ) -> String? {
        let subject = isElement ? "Each of '\(name)'" : "'\(name)'"
        guard case .string(let text) = node.value else {
            report(node.offset, "\(subject) must be text in quotes, not \(node.kind).")
            return nil
        }
        guard isEmptyAllowed || !text.isEmpty else {
            report(node.offset, "\(subject) must not be empty.")
            return nil
        }
        guard text.utf8.count <= Self.maximumLength else {
            report(node.offset, "\(subject) must not be longer than \(Self.maximumLength) bytes.")
            return nil
        }
        guard text.unicodeScalars.allSatisfy({ $0.properties.generalCategory != .control }) else {
            report(node.offset, "\(subject) must not contain control characters.")
            return nil
        }
        return text
    }
}

extension String {
    /// Why this cannot be the name of an environment variable; nil if it can.
    fileprivate var variableObjection: String? {
        let isValid = utf8.allSatisfy { RuntimeID.isAllowedInName($0) && $0 != 0x2D && $0 != 0x2E }
        guard !isValid || first.map({ $0.isNumber }) ?? true else { return nil }
        return "The name of a variable has letters, digits and _ and does not begin with a digit."
    }

    /// For messages: a name may be as long as the text.
    fileprivate var shortened: String { String(prefix(80)) }
}
