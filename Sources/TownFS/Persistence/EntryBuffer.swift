import Glibc
import Liveness

/// Entries of a log that are to be appended at once, in the form that they have there.
struct EntryBuffer: ~Copyable {
    /// Small at first: malloc(3) keeps blocks of up to 1,032 bytes at hand for each thread.
    private var bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: 1000, alignment: 8)
    private var used = 0
    /// Where the entry that is being added begins.
    private var entry = 0

    deinit { bytes.deallocate() }

    var isEmpty: Bool { used == 0 }

    mutating func removeAll() { used = 0 }

    // MARK: Adding

    /// Begins an entry: its key is put next.
    mutating func begin(_ kind: SharedLog.Kind) {
        reserve(0)
        entry = used
        bytes.storeBytes(of: kind, toByteOffset: entry + 4, as: UInt8.self)
        used += SharedLog.Writer.prefixSize
    }

    /// Ends the key: the value is put next.
    mutating func endKey() {
        let size = used - entry - SharedLog.Writer.prefixSize
        bytes.storeBytes(of: UInt32(size).littleEndian, toByteOffset: entry + 5, as: UInt32.self)
    }

    mutating func end() {
        bytes.storeBytes(of: UInt32(used - entry - 4).littleEndian, toByteOffset: entry, as: UInt32.self)
    }

    /// Adds the removal of a key.
    mutating func remove(_ kind: SharedLog.Kind, key: UnsafeRawBufferPointer) {
        begin(kind | SharedLog.Writer.removedBit)
        put(key)
        endKey()
        end()
    }

    /// For fewer than `slack` bytes of numbers in a row.
    mutating func put(_ number: some FixedWidthInteger) {
        bytes.storeBytes(of: number.littleEndian, toByteOffset: used, as: type(of: number))
        used += MemoryLayout.size(ofValue: number)
    }

    mutating func put(_ source: UnsafeRawBufferPointer) {
        guard let start = source.baseAddress else { return }
        reserve(source.count)
        (bytes.baseAddress! + used).copyMemory(from: start, byteCount: source.count)  // because it is not empty.
        used += source.count
    }

    /// Room for numbers beyond what is reserved.
    private static let slack = 512

    private mutating func reserve(_ count: Int) {
        let needed = used + count + Self.slack
        guard needed > bytes.count else { return }
        let larger = UnsafeMutableRawBufferPointer.allocate(byteCount: max(needed, 2 * bytes.count), alignment: 8)
        larger.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[..<used]))
        bytes.deallocate()
        bytes = larger
    }

    // MARK: Reading

    func withUnsafeBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        body(UnsafeRawBufferPointer(rebasing: bytes[..<used]))
    }

    /// Calls `body` with each entry.
    func forEach(_ body: (UnsafeRawBufferPointer) -> Void) {
        var position = 0
        while position < used {
            let size = 4 + Int(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: position, as: UInt32.self)))
            body(UnsafeRawBufferPointer(rebasing: bytes[position..<position + size]))
            position += size
        }
    }
}

/// Reads what `EntryBuffer` has put.
struct ByteReader {
    struct Malformed: Error {}

    private(set) var rest: UnsafeRawBufferPointer

    init(_ bytes: UnsafeRawBufferPointer) { rest = bytes }

    mutating func bytes(_ count: Int) throws(Malformed) -> UnsafeRawBufferPointer {
        guard count <= rest.count else { throw Malformed() }
        defer { rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(count)) }
        return UnsafeRawBufferPointer(rebasing: rest.prefix(count))
    }

    mutating func number<Number: FixedWidthInteger>(_: Number.Type) throws(Malformed) -> Number {
        Number(littleEndian: try bytes(MemoryLayout<Number>.size).loadUnaligned(as: Number.self))
    }

    /// See `EntryBuffer.put`.
    mutating func sized() throws(Malformed) -> UnsafeRawBufferPointer? {
        let count = Int(try number(UInt32.self))
        return count == 0 ? nil : try bytes(count - 1)
    }

    mutating func duration() throws(Malformed) -> Duration { Duration(attoseconds: try number(Int128.self)) }

    mutating func wallTime() throws(Malformed) -> WallTime {
        let seconds = try number(Int64.self)
        let nanoseconds = try number(Int32.self)
        guard (0..<1_000_000_000).contains(nanoseconds) else { throw Malformed() }
        return WallTime(seconds: seconds, nanoseconds: nanoseconds)
    }

    mutating func ownership() throws(Malformed) -> SignalFile.Ownership {
        let mode = try number(mode_t.self)
        let user = try number(uid_t.self)
        return SignalFile.Ownership(mode: mode, user: user, group: try number(gid_t.self))
    }
}
