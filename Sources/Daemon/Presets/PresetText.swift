import FoundationEssentials
import Liveness
import TownFS

/// The text form of a preset, in files, built in and on command lines: docs/PRESETS.md.
package enum PresetText {
    /// In bytes, comments included.
    package static let maximumSize = 1 << 20
    /// In bytes, of the compact form.
    ///
    /// Linux allows 128 KiB for an argument of a program.
    package static let maximumCompactSize = 64 << 10

    /// Decodes a text of any content.
    package static func decode(_ text: [UInt8]) throws(PresetErrors) -> Preset {
        guard text.count <= maximumSize else {
            throw PresetErrors([(0, "The text is longer than 1 MiB.")], in: text)
        }
        let root: LocatedJSON
        do throws(LocatedJSON.Problem) {
            root = try LocatedJSON(text)
        } catch {
            throw PresetErrors([(error.offset, error.message)], in: text)
        }
        var decoder = PresetDecoder()
        let preset = decoder.preset(root)
        guard decoder.errors.isEmpty, let preset else { throw PresetErrors(decoder.errors, in: text) }
        let size = compact(preset).utf8.count
        guard size <= maximumCompactSize else {
            let message = "The preset has \(size) bytes without comments, more than \(maximumCompactSize)."
            throw PresetErrors([(root.offset, message)], in: text)
        }
        return preset
    }

    /// A text on one line that decodes to the same preset.
    package static func compact(_ preset: Preset) -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        // Values contain only strings, so encoding does not fail.
        return (try? encoder.encode(Members(preset))).map { String(decoding: $0, as: UTF8.self) } ?? ""
    }

    /// The members of the text; nil for those that are left out.
    private struct Members: Encodable {
        struct Rule: Encodable {
            let path: String
            let kind: String?
            let ttl: String?
            let exclude: [String]?
            let id: String?
            let state: String?
            let timestamp: String?
            let pid: String?
            let start: String?
        }

        struct Helper: Encodable {
            let program: String
            let variable: String?
            let subcommands: [String]?
        }

        let name: String
        let summary: String?
        let identities: String?
        let signals: [Rule]?
        let variables: [String]?
        let helpers: [Helper]?

        init(_ preset: Preset) {
            name = preset.name
            summary = preset.summary.isEmpty ? nil : preset.summary
            identities = preset.isGasTown ? PresetDecoder.gasTown : nil
            signals = preset.signals.nonEmpty?.map { signal in
                Rule(
                    path: signal.pattern, kind: signal.kind == .document ? nil : signal.kind.rawValue,
                    ttl: signal.ttl?.spelled, exclude: signal.excluded.nonEmpty, id: signal.fields.id,
                    state: signal.fields.state, timestamp: signal.fields.timestamp, pid: signal.fields.pid,
                    start: signal.fields.start)
            }
            variables = preset.variables.nonEmpty
            helpers = preset.helpers.nonEmpty?.map {
                Helper(program: $0.program, variable: $0.variable, subcommands: $0.subcommands.nonEmpty)
            }
        }
    }
}

extension Array {
    fileprivate var nonEmpty: Self? { isEmpty ? nil : self }
}
