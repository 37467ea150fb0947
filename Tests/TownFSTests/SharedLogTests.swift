import CLinux
import Glibc
import Linux
import SystemPackage
import TestSupport
import Testing

@testable import TownFS

@Suite(.timeLimit(.minutes(5))) struct SharedLogTests {
    private static let regionSize = 1 << 20

    private func makeMemory() throws -> SharedMemory {
        try SharedMemory(named: "test", size: SharedLog.size(ofRegion: Self.regionSize))
    }

    private func open(_ memory: SharedMemory) -> SharedLog { SharedLog(memory, regionSize: Self.regionSize) }

    @Test func keysAndValuesMayBeEmpty() throws {
        let memory = try makeMemory()
        let log = open(memory)
        #expect(log.append(key: [], value: [1]))
        #expect(log.append(key: [2], value: []))
        #expect(log.entries() == [[]: [1], [2]: []])
        #expect(log.remove(key: []))
        #expect(open(memory).entries() == [[2]: []])
    }

    @Test func kindsSeparateKeys() throws {
        let memory = try makeMemory()
        let log = open(memory)
        for kind in 0..<3 as Range<UInt8> { #expect(log.append(kind, key: [7], value: [kind])) }
        #expect(log.remove(1, key: [7]))
        let successor = open(memory)
        #expect(successor.entries(0) == [[7]: [0]])
        #expect(successor.entries(1) == [:])
        #expect(successor.entries(2) == [[7]: [2]])
    }

    /// Against a dictionary, over many compactions, continued by a successor now and then.
    @Test(arguments: 0..<8 as Range<UInt64>) func behavesLikeADictionary(_ seed: UInt64) throws {
        var random = SplitMix64(state: seed)
        let memory = try makeMemory()
        var log = open(memory)
        var model: [[UInt8]: [UInt8]] = [:]
        let keyCount = [3, 40, 400, 2000][Int(seed) % 4]
        for step in 0..<20_000 {
            let key = Array("key \(Int.random(in: 0..<keyCount, using: &random))".utf8)
            if Int.random(in: 0..<10, using: &random) < 3 {
                #expect(log.remove(key: key))
                model[key] = nil
            } else {
                let size = Int.random(in: 0...200, using: &random)
                let value = (0..<size).map { UInt8(truncatingIfNeeded: step &+ $0) }
                #expect(log.append(key: key, value: value))
                model[key] = value
            }
            if Int.random(in: 0..<3000, using: &random) == 0 { log = open(memory) }
            if step % 4000 == 3999 { #expect(log.entries() == model) }
        }
        #expect(open(memory).entries() == model)
    }

    @Test func batchCountsAsAWholeEvenWithACompaction() throws {
        let memory = try makeMemory()
        let log = open(memory)
        #expect(log.append(key: [0], value: [0]))
        for round in 1...2000 as ClosedRange<UInt16> {
            let value = [UInt8](repeating: UInt8(truncatingIfNeeded: round), count: 700)
            log.batch { writer in
                for key in 0..<3 as Range<UInt8> {
                    let isAppended = withUnsafeBytes(of: key) { key in
                        writer.append(key: key, size: value.count) { target in
                            value.withUnsafeBytes { target.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
                        }
                    }
                    #expect(isAppended)
                    // Not published yet.
                    let seen = open(memory).entries()
                    #expect(Set(seen.values.map { $0.first }).count == 1)
                    #expect(seen[[0]]?.first == UInt8(truncatingIfNeeded: round - 1))
                }
            }
            if round % 100 != 0 { continue }
            #expect(open(memory).entries() == [[0]: value, [1]: value, [2]: value])
        }
    }

    @Test func fullLogKeepsItsEntriesAndAcceptsRemovals() throws {
        let memory = try makeMemory()
        let log = open(memory)
        let value = [UInt8](repeating: 9, count: 10_000)
        var accepted = 0
        while accepted < 1000, log.append(key: Array("\(accepted)".utf8), value: value) { accepted += 1 }
        #expect((100..<105).contains(accepted))
        #expect(open(memory).entries().count == accepted)
        #expect(log.remove(key: Array("0".utf8)))
        #expect(log.append(key: Array("new".utf8), value: value))
        #expect(open(memory).entries().count == accepted)
        #expect(open(memory).entries()[Array("0".utf8)] == nil)
    }

    @Test func freedPagesReadAsZeros() throws {
        let memory = try SharedMemory(named: "test", size: 3 * 4096)
        memory[0, memory.size].initializeMemory(as: UInt8.self, repeating: 5)
        memory.free(4096, 4096)
        #expect(memory[0, memory.size].map { $0 == 0 ? 1 : 0 }.reduce(0, +) == 4096)
        let other = try SharedMemory(takingOwnershipOf: OwnedDescriptor(duplicating: memory.descriptor))
        #expect(other.size == memory.size)
        other.base.storeBytes(of: 77, as: UInt8.self)
        #expect(memory.base.load(as: UInt8.self) == 77)
    }

    /// Processes that are killed while they append, each continuing the log of the one before.
    @Test func killedProcessLeavesExactlyWhatItHasDone() async throws {
        let memory = try SharedMemory(named: "test", size: AppendingProcess.memorySize)
        let path = "/proc/\(getpid())/fd/\(memory.descriptor)"
        var random = SplitMix64(state: 7)
        var model: [[UInt8]: [UInt8]] = [:]
        var done: UInt64 = 0
        for _ in 0..<20 {
            let delay = UInt32.random(in: 100..<30_000, using: &random)
            await #expect(processExitsWith: .signal(SIGKILL)) { [path = path as String, delay = delay as UInt32] in
                try AppendingProcess.run(path, killedAfter: delay)
            }
            var entries = AppendingProcess.log(memory).entries()
            let counter = entries.removeValue(forKey: AppendingProcess.counterKey)
            let last = try #require(counter).withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
            #expect(last >= done)
            while done < last {
                done += 1
                let (key, value) = AppendingProcess.operation(done)
                model[key] = value
            }
            #expect(entries == model)
            // The child has counted its steps in the memory, too, after each.
            let counted = memory.base.load(fromByteOffset: AppendingProcess.memorySize - 8, as: UInt64.self)
            #expect(last - counted <= 1)
        }
        #expect(done > 1000)
    }
}

/// A process that appends to a log until it is killed.
private enum AppendingProcess {
    static let counterKey: [UInt8] = [0xff]
    private static let regionSize = 1 << 20
    static let memorySize = SharedLog.size(ofRegion: regionSize) + 4096

    static func log(_ memory: SharedMemory) -> SharedLog { SharedLog(memory, regionSize: regionSize) }

    /// The change in a step; a nil value removes the key.
    static func operation(_ step: UInt64) -> (key: [UInt8], value: [UInt8]?) {
        var random = SplitMix64(state: step)
        let key = Array("key \(random.next() % 500)".utf8)
        guard random.next() % 4 != 0 else { return (key, nil) }
        return (key, [UInt8](repeating: UInt8(truncatingIfNeeded: step), count: Int(random.next() % 600)))
    }

    static func run(_ path: String, killedAfter microseconds: UInt32) throws {
        let memory = try SharedMemory(takingOwnershipOf: OwnedDescriptor(opening: path, in: AT_FDCWD, O_RDWR))
        let log = log(memory)
        let counter = log.entries()[counterKey]
        let last = counter?.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
        _ = try Thread(named: "killer") {
            usleep(microseconds)
            kill(getpid(), SIGKILL)
        }
        var step = last ?? 0
        while true {
            step += 1
            let (key, value) = operation(step)
            log.batch { writer in
                counterKey.withUnsafeBytes { counterKey in
                    _ = writer.append(key: counterKey, size: 8) { $0.storeBytes(of: step, as: UInt64.self) }
                }
                key.withUnsafeBytes { key in
                    guard let value else {
                        _ = writer.remove(key: key)
                        return
                    }
                    _ = writer.append(key: key, size: value.count) { target in
                        value.withUnsafeBytes { bytes in
                            if let start = bytes.baseAddress { target.copyMemory(from: start, byteCount: bytes.count) }
                        }
                    }
                }
            }
            memory.base.storeBytes(of: step, toByteOffset: memorySize - 8, as: UInt64.self)
        }
    }
}
