import Fuse
import Glibc
import Linux
import Liveness
import SystemPackage
import TestSupport
import Testing

@testable import TownFS

/// Signal files whose paths are longer than PATH_MAX, which is possible because the kernel sends no paths.
@Suite(.timeLimit(.minutes(5))) struct LongPathTests {
    private let directory = Array(repeating: String(repeating: "d", count: 200), count: 25).joined(separator: "/")

    /// Reads a backing file, one component at a time; nil if it is missing.
    private func readBacking(_ path: String, in town: TestTown) throws -> String? {
        let names = path.split(separator: "/").map(String.init)
        var place = try OwnedDescriptor(opening: ".", in: town.root.rawValue, O_RDONLY | O_DIRECTORY)
        for name in names.dropLast() {
            place = try OwnedDescriptor(opening: name, in: place.rawValue, O_RDONLY | O_DIRECTORY)
        }
        guard let file = try? OwnedDescriptor(opening: names.last ?? "", in: place.rawValue, O_RDONLY) else {
            return nil
        }
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = read(file.rawValue, &bytes, bytes.count)
        return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
    }

    @Test(arguments: [4, 64]) func signalFileIsTouchedWrittenBackAndRemoved(cacheCapacity: Int) throws {
        try withTown(patterns: ["**/beat.json"], cacheCapacity: cacheCapacity) { town in
            let names = directory.split(separator: "/")
            for count in 1...names.count { try town.mkdir(names.prefix(count).joined(separator: "/")) }
            let path = "\(directory)/beat.json"
            #expect(path.utf8.count > PATH_MAX)
            try town.write(#"{"n":1}"#, to: path)
            let text = try town.read(path)
            #expect(text.contains(#""n":1"#))
            #expect(town.town.liveness.counts().signals.alive == 1)
            town.writeback()
            #expect(try readBacking(path, in: town) == text)
            try town.write(#"{"n":2}"#, to: path)
            town.writeback()
            #expect(try readBacking(path, in: town) == town.read(path))
            try town.rename(path, to: "\(directory)/plain")
            #expect(try readBacking("\(directory)/plain", in: town)?.contains(#""n":2"#) == true)
            try town.rename("\(directory)/plain", to: path)
            #expect(try town.read(path).contains(#""n":2"#))
            try town.unlink(path)
            #expect(try !town.exists(path))
            #expect(try readBacking(path, in: town) == nil)
            #expect(town.town.liveness.counts().signals.alive == 0)
        }
    }

    /// A worker is killed with a dirty document under such a path.
    @Test func recoveryWritesTheDocument() throws {
        try withTown(patterns: ["**/beat.json"]) { town in
            let names = directory.split(separator: "/")
            for count in 1...names.count { try town.mkdir(names.prefix(count).joined(separator: "/")) }
            let path = "\(directory)/beat.json"
            try town.write(#"{"n":1}"#, to: path)
            let text = try town.read(path)
            try town.recover()
            #expect(try readBacking(path, in: town) == text)
        }
    }
}
