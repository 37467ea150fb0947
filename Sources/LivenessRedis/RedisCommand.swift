import CHiredis

/// A Redis command: name and arguments.
package struct RedisCommand: Hashable, Sendable {
    package let arguments: [[UInt8]]

    package init(_ arguments: [[UInt8]]) {
        self.arguments = arguments
    }

    package init(_ words: String...) {
        arguments = words.map { Array($0.utf8) }
    }

    package init(_ words: [String]) {
        arguments = words.map { Array($0.utf8) }
    }

    /// Appends the command's RESP encoding.
    func append(to bytes: inout [UInt8]) {
        let lengths = arguments.map(\.count)
        var joined: [UInt8] = []
        joined.reserveCapacity(lengths.reduce(0, +))
        for argument in arguments { joined += argument }
        joined.withUnsafeBytes { joined in
            // because an empty array may have no address, and the pointers of empty arguments are not read.
            let start = joined.baseAddress.map { $0.assumingMemoryBound(to: CChar.self) }
            var offset = 0
            var starts = lengths.map { length in
                defer { offset += length }
                return start.map { $0 + offset }
            }
            var formatted: UnsafeMutablePointer<CChar>?
            let count = Int(redisFormatCommandArgv(&formatted, CInt(lengths.count), &starts, lengths))
            guard count >= 0, let formatted else { preconditionFailure("a Redis command larger than memory") }
            defer { redisFreeCommand(formatted) }
            bytes.append(contentsOf: UnsafeRawBufferPointer(start: formatted, count: count))
        }
    }
}

extension RedisCommand: CustomStringConvertible {
    /// The command's name only: arguments may be passwords.
    package var description: String { arguments.first.map { String(decoding: $0, as: UTF8.self) } ?? "" }
}
