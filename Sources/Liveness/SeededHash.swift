/// Hashes of bytes that nobody outside this process can tell: quicker than `Hasher` for ids and paths, of some dozen
/// bytes each.
///
/// Sixteen bytes at a time are folded by one multiplication of 64 by 64 bits (wyhash: Wang Yi, 2019; Go's maps use the
/// same on machines without AES instructions, against the same attack). All its constants are drawn at random when the
/// process begins: whoever picks ids cannot pick such as collide without knowing them.
enum SeededHash {
    /// Odd, so that no product loses all of a factor.
    private static let secret = (
        UInt64.random(in: .min ... .max) | 1, UInt64.random(in: .min ... .max) | 1, UInt64.random(in: .min ... .max) | 1
    )

    @inline(__always)
    static func hash(_ text: String) -> Int {
        // No `??`, which would count a reference to the string.
        if let hash = text.utf8.withContiguousStorageIfAvailable({ hash(UnsafeRawBufferPointer($0)) }) { return hash }
        return hash(Array(text.utf8))
    }

    @inline(__always)
    static func hash(_ bytes: [UInt8]) -> Int { bytes.withUnsafeBytes { hash($0) } }

    @inline(__always)
    static func hash(_ bytes: UnsafeRawBufferPointer) -> Int {
        let secret = secret
        let count = bytes.count
        var sum = secret.0
        var last: (UInt64, UInt64) = (0, 0)
        if count > 16 {
            var start = 0
            while start < count - 16 {
                sum = folded(bytes.word(start) ^ secret.1, bytes.word(start + 8) ^ sum)
                start += 16
            }
            // They may overlap with what was there before; the length tells how far.
            last = (bytes.word(count - 16), bytes.word(count - 8))
        } else if count >= 8 {
            last = (bytes.word(0), bytes.word(count - 8))
        } else if count >= 4 {
            last = (bytes.half(0), bytes.half(count - 4))
        } else {
            for byte in bytes { last.0 = last.0 << 8 | UInt64(byte) }
        }
        let rest = folded(last.0 ^ secret.1, last.1 ^ sum)
        return Int(truncatingIfNeeded: folded(rest, secret.2 ^ UInt64(truncatingIfNeeded: count)))
    }

    @inline(__always)
    private static func folded(_ one: UInt64, _ other: UInt64) -> UInt64 {
        let product = one.multipliedFullWidth(by: other)
        return product.high ^ product.low
    }
}

extension UnsafeRawBufferPointer {
    /// Whether the same bytes are there: quicker for some dozen bytes than a call of `memcmp`.
    @inline(__always)
    func holdsSame(as other: UnsafeRawBufferPointer) -> Bool {
        guard count == other.count else { return false }
        guard count >= 8 else { return elementsEqual(other) }
        var start = 0
        while start < count - 8 {
            if word(start) != other.word(start) { return false }
            start += 8
        }
        return word(count - 8) == other.word(count - 8)
    }

    @inline(__always)
    fileprivate func word(_ start: Int) -> UInt64 { loadUnaligned(fromByteOffset: start, as: UInt64.self) }

    @inline(__always)
    fileprivate func half(_ start: Int) -> UInt64 {
        UInt64(loadUnaligned(fromByteOffset: start, as: UInt32.self))
    }
}
