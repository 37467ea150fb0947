import CLinux
import Fuse
import Glibc
import Linux
import SystemPackage
import TestSupport
import Testing

@testable import TownFS

/// Inodes and open files in memory that outlives the process.
@Suite(.timeLimit(.minutes(5))) struct NodeRecordsTests {
    private static let firstInode: UInt64 = 1024

    private func makeMemory() throws -> SharedMemory {
        try SharedMemory(named: "test", size: NodeRecords.size + HandleRecords.size)
    }

    /// What a successor has to know of a node.
    private struct Known: Equatable {
        let parent: InodeNumber
        let name: [UInt8]
        let lookups: UInt64
        let identity: FileIdentity?
        let birth: Birth?
        let flags: UInt32

        init(_ node: Node) {
            parent = node.parent
            name = node.name.bytes
            lookups = node.lookups
            identity = node.identity
            birth = node.birth
            flags = node.flags.rawValue
        }
    }

    private func known(_ table: NodeTable) -> [InodeNumber: Known] {
        var found: [InodeNumber: Known] = [:]
        table.forEach { found[$0] = Known($1) }
        return found
    }

    /// A table is dropped at random points, as by a kill, and restored: it has the same nodes, and gives out no number
    /// twice.
    @Test(arguments: [1, 2, 3] as [UInt64]) func restoredTableHasTheSameNodes(_ seed: UInt64) throws {
        let memory = try makeMemory()
        var random = SplitMix64(state: seed)
        var table = NodeTable(firstInode: Self.firstInode, records: NodeRecords(in: memory, at: 0))
        table.insert(
            Node(
                nameKind: .backing(FileIdentity(device: 1, number: 1)), parent: .root, name: NodeName([]), lookups: 1,
                isDirectory: true, isPinned: true), as: .root)
        table.index(.root)
        var numbers: [InodeNumber] = []
        var everGiven: Set<InodeNumber> = []
        var nextNumber: ino_t = 2
        /// Short and long names, up to the longest.
        func name() -> NodeName {
            let count = Int.random(in: 1...255, using: &random)
            return NodeName((0..<count).map { _ in UInt8.random(in: 97...122, using: &random) })
        }
        for step in 0..<20_000 {
            let isGrowing = (step / 4000).isMultiple(of: 2)
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<(isGrowing ? 5 : 1):
                let inode = table.add(
                    Node(
                        nameKind: .backing(FileIdentity(device: 1, number: nextNumber)), parent: .root, name: name(),
                        lookups: 1, isDirectory: Bool.random(using: &random)))
                nextNumber += 1
                #expect(everGiven.insert(inode).inserted)
                table.link(inode)
                table.index(inode)
                table[inode]?.birth = Birth(seconds: Int64(step), nanoseconds: 5)
                numbers.append(inode)
            case 5..<7:
                if let inode = numbers.randomElement(using: &random) { table[inode]?.lookups += 1 }
            case 7:
                if let inode = numbers.randomElement(using: &random) { table[inode]?.name = name() }
            case 8:
                if let inode = numbers.randomElement(using: &random) {
                    table[inode]?.isAliased.toggle()
                    table[inode]?.mayBeMapped.toggle()
                }
            default:
                guard let index = numbers.indices.randomElement(using: &random) else { continue }
                let inode = numbers.remove(at: index)
                table.unlink(inode)
                table.remove(inode)
            }
            guard step % 1500 == 1499 else { continue }
            let before = known(table)
            table = NodeTable(restoring: NodeRecords(in: memory, at: 0), firstInode: Self.firstInode)
            #expect(known(table) == before)
            #expect(table.count == numbers.count + 1)
            #expect(Set(table.children(of: .root)) == Set(numbers))
            for inode in numbers {
                #expect(table[inode]?.identity.flatMap { table.inode(of: $0) } == inode)
            }
        }
    }

    /// A rename is of several words.
    ///
    /// After a kill between any two of them, the former name is restored.
    @Test(arguments: ["after", String(repeating: "a long name ", count: 20)])
    func changeThatWasNotCompletedIsUndone(name: String) throws {
        let memory = try makeMemory()
        var table = NodeTable(firstInode: Self.firstInode, records: NodeRecords(in: memory, at: 0))
        let inode = table.add(
            Node(
                nameKind: .backing(FileIdentity(device: 1, number: 7)), parent: .root, name: NodeName("before".utf8),
                lookups: 1))
        // The head, and the records of the first slots.
        let watched = 1 << 20
        let before = Array(memory[0, watched])
        var renamed = try #require(table[inode])
        renamed.parent = InodeNumber(rawValue: 8)
        renamed.name = NodeName(name.utf8)
        table[inode] = renamed
        let after = Array(memory[0, watched])
        let changed = before.indices.filter { before[$0] != after[$0] && $0 >= 4096 }
        #expect(changed.count >= 2)
        for cut in 0...changed.count {
            let other = try makeMemory()
            other[0, watched].copyBytes(from: after)
            for offset in changed[cut...] { other[0, watched][offset] = before[offset] }
            // The mark that the change has begun: the slot, and 1. The former record is in its place still.
            other[0, watched].storeBytes(
                of: Self.firstInode + 1, toByteOffset: NodeRecords.undoSlotStart, as: UInt64.self)
            var restored: [NodeRecords.Restored] = []
            NodeRecords(in: other, at: 0).restore { _, _, node in restored += node.map { [$0] } ?? [] }
            #expect(restored.map { String(decoding: $0.name.bytes, as: UTF8.self) } == ["before"])
            #expect(restored.map(\.parent) == [.root])
        }
    }

    @Test func openFilesAreRestored() throws {
        let memory = try makeMemory()
        let first = HandleRecords(in: memory, at: NodeRecords.size)
        #expect(first.isNew)
        let file = HandleRecords.Content(
            handle: FileHandle(rawValue: 7), inode: InodeNumber(rawValue: 99), flags: O_RDWR, user: 1000, thread: 42,
            request: 5)
        let slot = try #require(first.add(file))
        let closed = try #require(first.add(file))
        first.remove(closed)
        let record = HandleRecord(handle: file.handle, slot: slot, in: first)
        record.set(.passthrough(Connection.BackingID(rawValue: 3), directIO: true))
        record.set(position: 20, from: 10, by: 77)
        let second = HandleRecords(in: memory, at: NodeRecords.size)
        #expect(!second.isNew && second.firstHandle > first.firstHandle)
        let restored = try #require(second.restored.first)
        #expect(second.restored.count == 1 && restored.slot == slot)
        let content = restored.content
        #expect(content.handle == file.handle && content.inode == file.inode && content.flags == O_RDWR)
        #expect(content.user == 1000 && content.thread == 42)
        #expect(content.ioMode == .passthrough(Connection.BackingID(rawValue: 3), directIO: true))
        #expect(content.position == 20 && content.lastPosition == 10 && content.lastRead == 77)
        // The free record is used again.
        #expect(second.add(file) == closed)
    }

    /// The keeper's side of descriptors of files without a name.
    @Test func descriptorsAreKeptUntilDropped() throws {
        let (five, six) = (DescriptorStore.Key(mount: 1, number: 5), DescriptorStore.Key(mount: 1, number: 6))
        let sockets = try DescriptorPair.messages()
        let keeper = OwnedDescriptor(takingOwnershipOf: sockets.0)
        let store = DescriptorStore(takingOwnershipOf: OwnedDescriptor(takingOwnershipOf: sockets.1), inheriting: [:])
        let file = Descriptor(try OwnedDescriptor(opening: "/proc/self/exe", in: AT_FDCWD, O_PATH))
        store.keep(file, as: five)
        store.drop(six)
        let kept = try #require(DescriptorStore.receive(from: keeper.rawValue))
        #expect(kept.key == five)
        let descriptor = try #require(kept.descriptors.first)
        #expect(try FileStatus(of: descriptor.rawValue).st_ino == FileStatus(of: file.rawValue).st_ino)
        let dropped = try #require(DescriptorStore.receive(from: keeper.rawValue))
        #expect(dropped.key == six && dropped.descriptors.isEmpty)
        #expect(DescriptorStore.receive(from: keeper.rawValue) == nil)
        let other = try DescriptorPair.messages()
        let successor = DescriptorStore(
            takingOwnershipOf: OwnedDescriptor(takingOwnershipOf: other.0), inheriting: [five: descriptor])
        _ = OwnedDescriptor(takingOwnershipOf: other.1)
        #expect(successor.remove(five) != nil)
        #expect(successor.remove(five) == nil)
    }
}
