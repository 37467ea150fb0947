import Fuse
import Glibc
import Linux
import Liveness
import SystemPackage
import TestSupport
import Testing

@testable import TownFS

/// Files with signal names whose paths are about as long as PATH_MAX.
///
/// The kernel sends no paths, so files may be deeper. Signal files are not: a longer path is that of a plain file.
@Suite(.timeLimit(.minutes(5))) struct LongPathTests {
    /// A path of `length` bytes to a file `beat.json`, and its directories.
    private func path(length: Int) -> (path: String, directories: [String]) {
        var names = Array(repeating: String(repeating: "d", count: 200), count: (length - 11) / 201)
        names.append(String(repeating: "e", count: length - 10 - names.count * 201))
        let directories = (1...names.count).map { names.prefix($0).joined(separator: "/") }
        return (names.joined(separator: "/") + "/beat.json", directories)
    }

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

    @Test(arguments: [4, 64]) func longestSignalFileIsTouchedWrittenBackRecoveredAndRemoved(cacheCapacity: Int) throws {
        try withTown(patterns: ["**/beat.json"], cacheCapacity: cacheCapacity) { town in
            let (path, directories) = path(length: Int(PATH_MAX) - 1)
            #expect(path.utf8.count == PATH_MAX - 1)
            for directory in directories { try town.mkdir(directory) }
            try town.write(#"{"n":1}"#, to: path)
            let text = try town.read(path)
            #expect(text.contains(#""n":1"#) && text.contains("timestamp"))
            #expect(town.town.liveness.counts().signals.alive == 1)
            try town.recover()
            #expect(try readBacking(path, in: town) == text)
            try town.write(#"{"n":2}"#, to: path)
            town.writeback()
            #expect(try readBacking(path, in: town) == town.read(path))
            try town.unlink(path)
            #expect(try !town.exists(path))
            #expect(try readBacking(path, in: town) == nil)
            #expect(town.town.liveness.counts().signals.alive == 0)
        }
    }

    @Test(arguments: [Int(PATH_MAX), 5000, 10_000]) func fileWithALongerPathIsAPlainFile(length: Int) throws {
        try withTown(patterns: ["**/beat.json"]) { town in
            let (path, directories) = path(length: length)
            #expect(path.utf8.count == length)
            for directory in directories { try town.mkdir(directory) }
            try town.write("{", to: path)
            #expect(try town.read(path) == "{")
            #expect(try readBacking(path, in: town) == "{")
            #expect(town.town.liveness.counts().signals.alive == 0)
            // A directory above it comes nearer to the root: the file becomes a signal file, and back.
            try town.write("{}", to: path)
            let parent = try #require(directories.last)
            try town.rename(parent, to: "near")
            #expect(throws: Errno.invalidArgument) { try town.write("{", to: "near/beat.json") }
            try town.write(#"{"n":1}"#, to: "near/beat.json")
            let text = try town.read("near/beat.json")
            #expect(town.town.liveness.counts().signals.alive == 1)
            try town.rename("near", to: parent)
            #expect(try town.read(path) == text)
            #expect(try readBacking(path, in: town) == text)
        }
    }
}
