import FoundationEssentials
import Glibc
import Linux
import SystemPackage
import TownFS

/// What a mounted town says of itself, read from `.pulse/status.json`.
enum StatusFile {
    /// How long a town may take to answer.
    static let patience: Duration = .seconds(5)

    static func read(of town: String) throws(Errno) -> TownAnswer<String> {
        try .ask { () throws(Errno) in
            try OwnedDescriptor(opening: town + "/.pulse/status.json", in: AT_FDCWD, O_RDONLY).readToEnd()
        }
    }

    /// Decodes the text.
    ///
    /// Keys that a newer worker adds are passed over.
    static func decode(_ text: String) -> TownStatus? {
        JSONText.decode(text)
    }
}

/// JSON as `.pulse` and the command spell it: keys in snake case.
enum JSONText {
    enum Keys {
        case inSnakeCase
        case asTheyAre
    }

    static func decode<Value: Decodable>(_ text: String, keys: Keys = .inSnakeCase) -> Value? {
        let decoder = JSONDecoder()
        if keys == .inSnakeCase { decoder.keyDecodingStrategy = .convertFromSnakeCase }
        return try? decoder.decode(Value.self, from: Data(text.utf8))
    }

    /// With keys in order, over several lines.
    static func encode(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        encoder.keyEncodingStrategy = .convertToSnakeCase
        return String(decoding: try encoder.encode(value), as: UTF8.self)
    }
}
