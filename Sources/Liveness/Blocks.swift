/// An array that grows without moving what is in it, so that no append takes long, however much there is.
///
/// A value like any array, and copied as a whole when one of two copies is changed. Elements are reached by their
/// addresses, without counting a reference to an array in between: what is looked up in a table of a million takes
/// several such steps.
struct Blocks<Element: Sendable>: @unchecked Sendable {
    // because `owner` is the only one to change what the addresses lead to, and only while it has a single owner itself.

    /// The owner's: where each block begins.
    private var blocks: UnsafeMutablePointer<UnsafeMutablePointer<Element>>?
    private var owner: Owner?
    private(set) var count = 0

    /// Elements in a block.
    private static var size: Int { 1024 }

    subscript(index: Int) -> Element {
        _read {
            precondition(index < count, "there is no such element")
            // because there is an element.
            yield blocks.unsafelyUnwrapped[index / Self.size][index % Self.size]
        }
        _modify {
            precondition(index < count, "there is no such element")
            copyIfShared()
            // because there is an element.
            yield &blocks.unsafelyUnwrapped[index / Self.size][index % Self.size]
        }
    }

    mutating func append(_ element: consuming Element) {
        copyIfShared()
        let owner = owner ?? Owner()
        self.owner = owner
        owner.makeRoom(forOneMoreThan: count)
        blocks = owner.blocks
        (owner.blocks[count / Self.size] + count % Self.size).initialize(to: element)
        count += 1
        owner.count = count
    }

    /// Takes out the last; there has to be one.
    @discardableResult
    mutating func removeLast() -> Element {
        precondition(count > 0, "there is no last element")
        copyIfShared()
        count -= 1
        owner?.count = count
        // because there was an element.
        return (blocks.unsafelyUnwrapped[count / Self.size] + count % Self.size).move()
    }

    private mutating func copyIfShared() {
        guard owner != nil, !isKnownUniquelyReferenced(&owner) else { return }
        var copy = Self()
        for index in 0..<count { copy.append(self[index]) }
        self = copy
    }

    /// What frees the memory; it never gives any back before.
    private final class Owner {
        private(set) var blocks = UnsafeMutablePointer<UnsafeMutablePointer<Element>>.allocate(capacity: 1)
        var count = 0
        private var blockCount = 0
        /// Of `blocks`.
        private var capacity = 1
        /// Of the first block, which grows as it is filled, since many have few elements.
        private var firstSize = 0
        /// Where blocks lie when there are many; see `makeBlock`.
        private var pieces: [LargePages] = []
        /// Blocks that lie elsewhere; they come first.
        private var ownCount = 0
        /// What is left of the last piece, in blocks.
        private var rest = 0

        func makeRoom(forOneMoreThan count: Int) {
            if count < Blocks.size, count == firstSize {
                growFirst()
            } else if count == blockCount * Blocks.size {
                add(makeBlock())
            }
        }

        /// Memory for a block: by itself at first, then from pieces of so many that a large page is of use.
        private func makeBlock() -> UnsafeMutablePointer<Element> {
            let bytes = Blocks.size * MemoryLayout<Element>.stride
            if rest == 0, blockCount * bytes >= LargePages.size / 2, bytes <= LargePages.size / 4,
                let piece = LargePages()
            {
                pieces.append(piece)
                rest = LargePages.size / bytes
            }
            guard rest > 0, let piece = pieces.last else {
                precondition(pieces.isEmpty, "there is no memory")
                ownCount = blockCount + 1
                return .allocate(capacity: Blocks.size)
            }
            rest -= 1
            return (piece.address + rest * bytes).bindMemory(to: Element.self, capacity: Blocks.size)
        }

        private func growFirst() {
            let size = min(max(4, 2 * firstSize), Blocks.size)
            let block = UnsafeMutablePointer<Element>.allocate(capacity: size)
            if firstSize > 0 {
                block.moveInitialize(from: blocks[0], count: firstSize)
                blocks[0].deallocate()
                blocks[0] = block
            } else {
                ownCount = 1
                add(block)
            }
            firstSize = size
        }

        private func add(_ block: UnsafeMutablePointer<Element>) {
            if blockCount == capacity {
                let more = UnsafeMutablePointer<UnsafeMutablePointer<Element>>.allocate(capacity: 2 * capacity)
                more.moveInitialize(from: blocks, count: blockCount)
                blocks.deallocate()
                blocks = more
                capacity *= 2
            }
            (blocks + blockCount).initialize(to: block)
            blockCount += 1
        }

        deinit {
            for block in 0..<blockCount {
                blocks[block].deinitialize(count: max(0, min(Blocks.size, count - block * Blocks.size)))
                if block < ownCount { blocks[block].deallocate() }
            }
            for piece in pieces { piece.free() }
            blocks.deallocate()
        }
    }
}
