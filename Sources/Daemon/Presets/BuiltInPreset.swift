import Liveness

/// A preset that is part of the program: a text as in a file, which `pulsefs preset show` prints.
package struct BuiltInPreset: Sendable {
    package let name: String
    package let text: String

    package var preset: Preset {
        get throws { try PresetText.decode(Array(text.utf8)) }
    }

    /// Gas Town's, which a town without `--preset` has.
    package static let standard = BuiltInPreset(name: "gastown", text: gasTown)

    package static let all = [
        standard,
        BuiltInPreset(name: "gascity", text: gasCity),
        BuiltInPreset(name: "claude-code", text: claudeCode),
        BuiltInPreset(name: "agent-deck", text: agentDeck),
        BuiltInPreset(name: "nanoclaw", text: nanoClaw),
        BuiltInPreset(name: "cortextos", text: cortextOS),
        BuiltInPreset(name: "touch-files", text: touchFiles),
    ]

    package static func named(_ name: String) -> BuiltInPreset? { all.first { $0.name == name } }

    /// For messages.
    package static var list: String {
        all.dropLast().map(\.name).joined(separator: ", ") + " and \(all[all.count - 1].name)"
    }
}
