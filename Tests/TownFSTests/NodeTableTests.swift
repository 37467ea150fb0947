import Fuse
import Glibc
import Testing

@testable import TownFS

@Suite(.timeLimit(.minutes(5))) struct NodeTableTests {
    private func node(_ number: ino_t) -> Node {
        Node(
            nameKind: .backing(FileIdentity(device: number % 3, number: number)), parent: .root,
            name: NodeName("\(number)".utf8), lookups: 1)
    }

    /// The table against a dictionary, through thousands of changes that fill and empty blocks.
    @Test(arguments: [1, 2, 3] as [UInt64])
    func agreesWithADictionary(_ seed: UInt64) {
        // Any fixed sequence that jumps about.
        func dice(_ step: Int, _ bound: Int) -> Int {
            Int(((UInt64(step) &+ seed << 20) &* 0x9E37_79B9_7F4A_7C15) >> 33) % bound
        }
        var table = NodeTable(firstInode: 1024)
        var model: [InodeNumber: ino_t] = [:]
        var numbers: [InodeNumber] = []
        var everGiven: Set<InodeNumber> = []
        var next: ino_t = 1
        for step in 0..<60_000 {
            // Grows to thousands, shrinks to nothing, repeats.
            let isGrowing = (step / 10_000).isMultiple(of: 2)
            if numbers.isEmpty || dice(step, 10) < (isGrowing ? 8 : 2) {
                let inode = table.add(node(next))
                table.index(inode)
                #expect(everGiven.insert(inode).inserted)
                model[inode] = next
                numbers.append(inode)
                next += 1
            } else {
                let index = dice(step, numbers.count)
                numbers.swapAt(index, numbers.count - 1)
                let inode = numbers.removeLast()
                table.remove(inode)
                #expect(table[inode] == nil)
                let gone = model.removeValue(forKey: inode) ?? 0
                #expect(table.inode(of: FileIdentity(device: gone % 3, number: gone)) == nil)
            }
        }
        #expect(table.count == model.count)
        for (inode, number) in model {
            #expect(table[inode]?.identity?.number == number)
            #expect(table.inode(of: FileIdentity(device: number % 3, number: number)) == inode)
        }
        var met: Set<InodeNumber> = []
        table.forEach { inode, _ in met.insert(inode) }
        #expect(met == Set(model.keys))
    }

    @Test func unusedPidHasNoIdentity() {
        var table = NodeTable(firstInode: 1024)
        let inode = table.add(node(7))
        for wrong in [0, 1, inode.rawValue + 1, inode.rawValue + 1 << 32, 1 << 31, .max] {
            #expect(table[InodeNumber(rawValue: wrong)] == nil)
            table.remove(InodeNumber(rawValue: wrong))
        }
        #expect(table.count == 1)
    }

    @Test func laterNodeOfAFileReplacesTheEarlierInTheIndex() {
        var table = NodeTable(firstInode: 1024)
        let first = table.add(node(7))
        let second = table.add(node(7))
        let identity = FileIdentity(device: 1, number: 7)
        table.index(first)
        table.index(second)
        #expect(table.inode(of: identity) == second)
        // Freeing the first does not affect the second.
        table.remove(first)
        #expect(table.inode(of: identity) == second)
        table.unindex(second)
        #expect(table.inode(of: identity) == nil)
        #expect(table[second] != nil)
    }

    @Test func childrenAreThoseWhoseParentANodeIs() {
        var table = NodeTable(firstInode: 1024)
        let parents = (0..<3).map { table.add(node(ino_t($0))) }
        var model: [InodeNumber: Set<InodeNumber>] = [:]
        var inodes: [InodeNumber] = []
        for step in 0..<3000 {
            let parent = parents[step * 7 % 3]
            switch step % 4 {
            case 0, 1:
                var child = node(ino_t(step + 10))
                child.parent = parent
                let inode = table.add(child)
                table.link(inode)
                model[parent, default: []].insert(inode)
                inodes.append(inode)
            case 2:
                let inode = inodes[step * 31 % inodes.count]
                guard let former = table[inode]?.parent else { continue }
                table.unlink(inode)
                table[inode]?.parent = parent
                table.link(inode)
                model[former]?.remove(inode)
                model[parent, default: []].insert(inode)
            default:
                let inode = inodes.remove(at: step * 17 % inodes.count)
                guard let former = table[inode]?.parent else { continue }
                table.unlink(inode)
                table.remove(inode)
                model[former]?.remove(inode)
            }
        }
        for parent in parents { #expect(Set(table.children(of: parent)) == model[parent] ?? []) }
        #expect(table.children(of: inodes[0]).isEmpty)
    }

    @Test func nodeIsSmall() {
        #expect(MemoryLayout<Node?>.stride <= 88)
        #expect(MemoryLayout<NodeName>.size == 24)
    }

    @Test(arguments: [0, 1, 21, 22, 23, 24, 255])
    func nameOfAnyLengthIsKept(_ length: Int) {
        let bytes = (0..<length).map { UInt8($0 % 255 + 1) }
        let name = NodeName(bytes)
        #expect(name.bytes == bytes)
        #expect(name.withPointer { strlen($0) } == length)
        #expect(name == bytes.withUnsafeBytes { NodeName(Array($0)) })
        #expect(Set([name, NodeName(bytes + [7])]).count == 2)
    }

    @Test(
        arguments: [
            (0, 0), (1_700_000_000, 999_999_999), (-1, 5), (-5_000_000_000, 0), (9_000_000_000, 1),
        ] as [(Int64, UInt32)])
    func birthSurvivesInANode(_ seconds: Int64, _ nanoseconds: UInt32) {
        var node = node(1)
        #expect(node.birth == nil)
        let birth = Birth(seconds: seconds, nanoseconds: nanoseconds)
        node.birth = birth
        #expect(node.birth == birth)
        // The node's next use has its own generation.
        node.nameKind = .backing(FileIdentity(device: 1, number: 2))
        #expect(node.birth == nil)
    }
}
