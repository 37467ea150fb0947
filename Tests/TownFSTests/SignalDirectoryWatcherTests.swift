import CLinux
import Glibc
import Linux
import Synchronization
import SystemPackage
import Testing

@testable import TownFS

/// Directories of signal files, found in a real tree as they are created and removed.
@Suite(.timeLimit(.minutes(5))) struct SignalDirectoryWatcherTests {
    private final class Finds: SignalDirectoryWatcher.Delegate {
        let paths = Mutex<[String]>([])
        let failures = Mutex<[String]>([])

        func found(_ path: [UInt8], _ directory: consuming OwnedDescriptor) {
            paths.withLock { $0.append(String(decoding: path, as: UTF8.self)) }
        }
        func lost(_ path: [UInt8]) {
            paths.withLock { $0.removeAll { $0 == String(decoding: path, as: UTF8.self) } }
        }
        func failed(_ path: [UInt8], _ error: Errno) {
            failures.withLock { $0.append("\(String(decoding: path, as: UTF8.self)): \(error)") }
        }
        var now: [String] { paths.withLock { $0.sorted() } }
    }

    private func withSearch(
        _ patterns: [String], prepare: (_ tree: String) throws -> Void = { _ in },
        _ body: (_ tree: String, _ finds: Finds, _ catchUp: () -> [String]) throws -> Void
    ) throws {
        try withTemporaryTree { tree in
            try prepare(tree)
            let root = try OwnedDescriptor(opening: tree, in: AT_FDCWD, O_PATH | O_DIRECTORY)
            var search = try SignalDirectoryWatcher(of: SignalPatterns(patterns), in: root.rawValue)
            let finds = Finds()
            search.search(for: finds)
            try body(tree, finds) {
                // inotify events are readable when the system call returns.
                search.update(for: finds)
                return finds.now
            }
        }
    }

    private static let polecats = "*/polecats/*/.runtime/keepalive.json"

    @Test func signalDirectoryIsFoundButNotItsParentsOrChildren() throws {
        try withSearch(
            SignalPatterns.defaults,
            prepare: {
                for path in [$0 + "/.runtime/heartbeats", $0 + "/deacon/dogs", $0 + "/src"] {
                    try makeDirectories(path)
                }
            }
        ) { tree, finds, catchUp in
            #expect(finds.now == [".runtime", "deacon"])
            for path in [tree + "/other", tree + "/daemon"] { try makeDirectories(path) }
            #expect(catchUp() == [".runtime", "daemon", "deacon"])
        }
    }

    @Test func directoryIsFoundHoweverItComes() throws {
        try withSearch([Self.polecats]) { tree, finds, catchUp in
            try makeDirectories(tree + "/rig/polecats/a/.runtime")
            #expect(catchUp() == ["rig/polecats/a/.runtime"])
            try makeDirectories(tree + "/.made/b/.runtime")
            #expect(rename(tree + "/.made/b", tree + "/rig/polecats/b") == 0)
            #expect(catchUp() == ["rig/polecats/a/.runtime", "rig/polecats/b/.runtime"])
            try makeDirectories(tree + "/rig/polecats/c")
            #expect(catchUp().count == 2)
            try makeDirectories(tree + "/rig/polecats/c/.runtime")
            #expect(catchUp().count == 3)
        }
    }

    @Test func directoryThatGoesIsLost() throws {
        try withSearch([Self.polecats], prepare: { try makeDirectories($0 + "/rig/polecats/a/.runtime") }) {
            tree, finds, catchUp in
            #expect(rename(tree + "/rig/polecats/a", tree + "/rig/polecats/b") == 0)
            #expect(catchUp() == ["rig/polecats/b/.runtime"])
            #expect(rename(tree + "/rig", tree + "/gir") == 0)
            #expect(catchUp() == ["gir/polecats/b/.runtime"])
            #expect(rmdir(tree + "/gir/polecats/b/.runtime") == 0)
            #expect(catchUp() == [])
            try makeDirectories(tree + "/gir/polecats/b/.runtime")
            #expect(catchUp() == ["gir/polecats/b/.runtime"])
            #expect(rename(tree + "/gir", tree + "/.hidden") == 0)
            #expect(catchUp() == [])
            #expect(finds.failures.withLock { $0 } == [])
        }
    }

    @Test func linksAndFilesAreNoDirectories() throws {
        try withSearch(SignalPatterns.defaults) { tree, _, catchUp in
            try makeDirectories(tree + "/elsewhere")
            #expect(symlink("elsewhere", tree + "/deacon") == 0)
            close(creat(tree + "/daemon", 0o644))
            #expect(catchUp() == [])
        }
    }
}
