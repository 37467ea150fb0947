import CLinux
import Glibc
import SystemPackage

/// A reply put together byte by byte, for requests that libfuse cannot answer.
///
/// Begins with `struct fuse_out_header` (16 bytes: length, error, unique); numbers are in the machine's own order.
struct RawReply {
    private(set) var bytes: [UInt8] = []

    init(to unique: UInt64) {
        append(UInt32(0))
        append(Int32(0))
        append(unique)
        setSize()
    }

    /// The reply to a request that is not answered otherwise; nil for one that wants none.
    static func refusal(of request: UnsafeRawBufferPointer, with error: Errno) -> RawReply? {
        guard request.count >= MemoryLayout<fuse_in_header>.size else { return nil }
        let header = request.loadUnaligned(as: fuse_in_header.self)
        switch fuse_opcode(header.opcode) {
        case FUSE_FORGET, FUSE_BATCH_FORGET, FUSE_INTERRUPT, FUSE_NOTIFY_REPLY: return nil
        default: break
        }
        var reply = RawReply(to: header.unique)
        reply.fail(error)
        return reply
    }

    mutating func fail(_ error: Errno) {
        withUnsafeBytes(of: -error.rawValue) { bytes.replaceSubrange(4..<8, with: $0) }
    }

    mutating func append(_ number: some FixedWidthInteger) {
        withUnsafeBytes(of: number) { bytes.append(contentsOf: $0) }
        setSize()
    }

    /// Appends zeros until there are `size` bytes.
    mutating func pad(to size: Int) {
        bytes.append(contentsOf: repeatElement(0, count: size - bytes.count))
        setSize()
    }

    private mutating func setSize() {
        guard bytes.count >= 4 else { return }
        withUnsafeBytes(of: UInt32(bytes.count)) { bytes.replaceSubrange(0..<4, with: $0) }
    }
}
