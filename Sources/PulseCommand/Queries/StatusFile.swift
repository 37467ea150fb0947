import FoundationEssentials
import Glibc
import Linux
import SystemPackage
import TownFS

/// `.pulse/status.json` of a mounted town.
enum StatusFile {
    /// How long a town may take to answer.
    static let patience: Duration = .seconds(5)

    static func read(of town: String) throws(Errno) -> TownAnswer<String> {
        try .ask { () throws(Errno) in
            try OwnedDescriptor(opening: town + "/.pulse/status.json", in: AT_FDCWD, O_RDONLY).readToEnd()
        }
    }

    /// Nil if the text cannot be decoded.
    ///
    /// Keys of a newer worker are ignored.
    static func decode(_ text: String) -> TownStatus? {
        JSONText.decode(text)
    }
}

/// JSON of `.pulse` and of the command: keys in snake case.
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

    /// Sorted keys, pretty-printed.
    static func encode(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        encoder.keyEncodingStrategy = .convertToSnakeCase
        return String(decoding: try encoder.encode(value), as: UTF8.self)
    }
}
