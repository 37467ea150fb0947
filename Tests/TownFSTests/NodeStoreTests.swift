import CLinux
import Fuse
import Glibc
import Linux
import SystemPackage
import Testing

@testable import TownFS

@Suite(.timeLimit(.minutes(5))) struct NodeStoreTests {
    // MARK: Lookup counts

    @Test func lookupsOfOneFileGiveOneInode() throws {
        try withTown(["a": "1"]) { town in
            let first = try town.lookup("a").inode
            #expect(try town.lookup("a").inode == first)
            #expect(town.nodes.count == 2)
        }
    }

    @Test func inodeIsForgottenWithItsLastLookup() throws {
        try withTown(["a": "1"]) { town in
            let inode = try town.lookup("a").inode
            _ = try town.lookup("a")
            town.forget(inode, count: 1)
            #expect(try town.getattr(inode, for: .me).status.st_size == 1)
            town.forget(inode, count: 1)
            #expect(throws: Errno.staleNFSFileHandle) { try town.getattr(inode, for: .me) }
            #expect(town.nodes.count == 1)
        }
    }

    @Test func inodeNumberIsNeverGivenOutTwice() throws {
        try withTown(["a": "1"]) { town in
            var seen: Set<UInt64> = []
            for _ in 0..<10 {
                let inode = try town.lookup("a").inode
                #expect(seen.insert(inode.rawValue).inserted)
                town.forget(inode, count: 1)
            }
        }
    }

    /// Bad input must not bring the mount down.
    @Test(arguments: [1, 2, 1024, .max] as [UInt64])
    func forgettingTooMuchForgetsAll(_ inode: UInt64) throws {
        try withTown(["a": "1"]) { town in
            let known = try town.lookup("a").inode
            town.forget(InodeNumber(rawValue: inode), count: .max)
            town.forget(known, count: .max)
            #expect(town.nodes.count == 1)
            #expect(try town.exists("a"))
        }
    }

    @Test func forgottenDirectoryStaysWhileAChildIsKnown() throws {
        try withTown(["d/a": "1"], cacheCapacity: 1) { town in
            let directory = try town.lookup("d").inode
            let file = try town.lookup(Array("a".utf8), in: directory).inode
            town.forget(directory, count: 1)
            #expect(try town.getattr(file, for: .me).status.st_size == 1)
            #expect(town.nodes.count == 3)
            town.forget(file, count: 1)
            #expect(town.nodes.count == 1)
        }
    }

    /// A forgotten directory's node is freed when its last child is known by another name.
    @Test func forgottenDirectoryGoesWhenItsLastFileIsSeenElsewhere() throws {
        try withTown(["a/x": "1", "b/y": "2"]) { town in
            try town.link("a/x", to: "b/x")
            let directory = try town.lookup("a").inode
            let file = try town.lookup(Array("x".utf8), in: directory).inode
            town.forget(directory, count: .max)
            // From now on known by its name in b.
            _ = try town.lookup("b/x")
            town.forget(file, count: .max)
            town.forget(try town.lookup("b").inode, count: .max)
            #expect(town.nodes.count == 1)
        }
    }

    @Test func allDescriptorsAreClosedOnceAllIsForgotten() throws {
        try withTown(["a/b/c/d": "1", "a/b/e": "2"]) { town in
            let before = town.descriptorCount
            var lookups: [InodeNumber: UInt64] = [:]
            for path in ["a/b/c/d", "a/b/e", "a/b"] {
                var inode = InodeNumber.root
                for name in path.split(separator: "/") {
                    inode = try town.lookup(Array(name.utf8), in: inode).inode
                    lookups[inode, default: 0] += 1
                }
                _ = try town.nodes.descriptor(of: inode)
            }
            #expect(town.descriptorCount > before)
            for (inode, count) in lookups { town.forget(inode, count: count) }
            #expect(town.descriptorCount == before)
            #expect(town.nodes.count == 1)
        }
    }

    // MARK: Path walk

    @Test(arguments: [1, 2, 5])
    func fewDescriptorsSufficeForDeepFiles(_ capacity: Int) throws {
        let deep = (0..<40).map { "d\($0)" }.joined(separator: "/")
        try withTown(["\(deep)/file": "deep", "a/b/c": "other"], cacheCapacity: capacity) { town in
            let file = try town.lookup("\(deep)/file").inode
            let before = town.descriptorCount
            for _ in 0..<3 {
                #expect(try town.getattr(file, for: .me).status.st_size == 4)
                #expect(try town.read("a/b/c") == "other")
                #expect(try town.read("\(deep)/file") == "deep")
            }
            #expect(town.descriptorCount <= before + capacity)
        }
    }

    @Test func cacheKeepsNoMoreDescriptorsThanItMay() throws {
        let files = Dictionary(uniqueKeysWithValues: (0..<50).map { ("d/f\($0)", "\($0)") })
        try withTown(files, cacheCapacity: 8) { town in
            let before = town.descriptorCount
            for (path, text) in files {
                let read = try town.read(path)
                #expect(read == text)
            }
            #expect(town.descriptorCount <= before + 8)
        }
    }

    @Test(arguments: [1, 64])
    func renamedDirectoryKeepsTheNodesInIt(_ capacity: Int) throws {
        try withTown(["a/b/c": "1", "x/y": "2"], cacheCapacity: capacity) { town in
            let file = try town.lookup("a/b/c").inode
            // Evicts other descriptors from a small cache.
            _ = try town.read("x/y")
            try town.rename("a", to: "x/moved")
            #expect(try town.getattr(file, for: .me).status.st_size == 1)
            #expect(try town.lookup("x/moved/b/c").inode == file)
            #expect(try !town.exists("a"))
        }
    }

    @Test(arguments: [1, 64])
    func exchangedDirectoriesKeepTheNodesInThem(_ capacity: Int) throws {
        try withTown(["a/f": "1", "b/g": "22"], cacheCapacity: capacity) { town in
            let inA = try town.lookup("a/f").inode
            let inB = try town.lookup("b/g").inode
            try town.rename("a", to: "b", flags: UInt32(RENAME_EXCHANGE))
            #expect(try town.getattr(inA, for: .me).status.st_size == 1)
            #expect(try town.getattr(inB, for: .me).status.st_size == 2)
            #expect(try town.lookup("b/f").inode == inA)
            #expect(try town.lookup("a/g").inode == inB)
        }
    }

    @Test func renameThatFailsChangesNothing() throws {
        try withTown(["a/f": "1", "b/g": "2"]) { town in
            let file = try town.lookup("a/f").inode
            #expect(throws: Errno.directoryNotEmpty) { try town.rename("a", to: "b") }
            #expect(throws: Errno.fileExists) { try town.rename("a", to: "b", flags: UInt32(RENAME_NOREPLACE)) }
            #expect(try town.lookup("a/f").inode == file)
            #expect(try town.getattr(file, for: .me).status.st_size == 1)
        }
    }

    @Test(arguments: [1, 64])
    func hardLinksAreOneInode(_ capacity: Int) throws {
        try withTown(["a/x": "1"], cacheCapacity: capacity) { town in
            let first = try town.lookup("a/x").inode
            try town.link("a/x", to: "y")
            #expect(try town.lookup("y").inode == first)
            #expect(try town.stat("a/x").st_nlink == 2)
            try town.unlink("y")
            #expect(try town.getattr(first, for: .me).status.st_nlink == 1)
            #expect(try town.lookup("a/x").inode == first)
            #expect(try town.read("a/x") == "1")
        }
    }

    @Test(arguments: ["unlink", "rename over it", "rmdir"])
    func fileWithoutANameIsStillFound(_ how: String) throws {
        try withTown(["a": "1", "b": "22", "d/.": ""].filter { $0.key != "d/." }, cacheCapacity: 1) { town in
            try town.mkdir("d")
            let inode = try town.lookup(how == "rmdir" ? "d" : "a").inode
            let number = try town.getattr(inode, for: .me).status.st_ino
            switch how {
            case "unlink": try town.unlink("a")
            case "rmdir": try town.rmdir("d")
            default: try town.rename("b", to: "a")
            }
            // Other files pass through the cache, which holds one descriptor.
            _ = try town.stat("daemon")
            _ = try town.stat("deacon")
            let status = try town.getattr(inode, for: .me).status
            #expect(status.st_ino == number)
            #expect(status.st_nlink == 0)
            if how != "rmdir" {
                let handle = try town.open(inode, flags: O_RDONLY, for: .me).handle
                #expect(try town.read(handle) == "1")
                town.release(handle)
            }
        }
    }

    @Test func descriptorOfAFileWithoutANameIsClosedWhenItIsForgotten() throws {
        try withTown(["a": "1"]) { town in
            let before = town.descriptorCount
            let inode = try town.lookup("a").inode
            try town.unlink("a")
            #expect(town.descriptorCount == before + 1)
            town.forget(inode, count: .max)
            #expect(town.descriptorCount == before)
        }
    }

    /// A name that could not be removed is still a path to the file, so no descriptor is kept for it.
    @Test func removalThatFailsKeepsNoDescriptor() throws {
        let files = Dictionary(uniqueKeysWithValues: (0..<20).map { ("full\($0)/file", "") })
        try withTown(files, cacheCapacity: 2) { town in
            let before = town.descriptorCount
            for number in 0..<20 {
                _ = try town.lookup("full\(number)")
                #expect(throws: Errno.directoryNotEmpty) { try town.rmdir("full\(number)") }
            }
            #expect(town.descriptorCount <= before + 2)
        }
    }

    // MARK: Changes in the backing tree

    /// The kernel gets ESTALE, never the other file.
    @Test(arguments: [1, 64])
    func replacedFileIsNotMistakenForTheNewOne(_ capacity: Int) throws {
        try withTown(["d/a": "1", "other/file": "x"], cacheCapacity: capacity) { town in
            let inode = try town.lookup("d/a").inode
            try town.writeBacking("new", to: "d/b")
            #expect(rename("\(town.tree)/d/b", "\(town.tree)/d/a") == 0)
            #expect(throws: Errno.staleNFSFileHandle) { try town.getattr(inode, for: .me) }
            #expect(throws: Errno.staleNFSFileHandle) { try town.open(inode, flags: O_RDONLY, for: .me) }
            // A new lookup finds the new file under another inode number.
            #expect(try town.lookup("d/a").inode != inode)
            #expect(try town.read("d/a") == "new")
        }
    }

    @Test func removedFileIsNotFound() throws {
        try withTown(["d/a": "1"]) { town in
            let inode = try town.lookup("d/a").inode
            #expect(unlink("\(town.tree)/d/a") == 0)
            #expect(throws: Errno.self) { try town.getattr(inode, for: .me) }
            #expect(try !town.exists("d/a"))
        }
    }

    /// Its path leads to another file, which is not mistaken for it.
    ///
    /// Its export handle finds it.
    @Test(arguments: [false, true])
    func directoryMovedInTheBackingTreeIsFoundByHandleOnly(usesHandles: Bool) throws {
        let files = ["d/e/a": "1", "elsewhere/e/a": "secret"]
        try withTown(files, cacheCapacity: 1, usesHandles: usesHandles) { town in
            let inode = try town.lookup("d/e/a").inode
            // Evicts the descriptor of d/e from the cache.
            _ = try town.lookup("elsewhere/e/a")
            #expect(rename("\(town.tree)/d", "\(town.tree)/was-d") == 0)
            #expect(symlink("elsewhere", "\(town.tree)/d") == 0)
            guard usesHandles, ExportHandle.FileSystem(of: town.root) != nil else {
                #expect(throws: Errno.self) { try town.open(inode, flags: O_RDONLY, for: .me) }
                return
            }
            let handle = try town.open(inode, flags: O_RDONLY, for: .me).handle
            #expect(try town.read(handle) == "1")
            town.release(handle)
        }
    }

    @Test func directoryThatIsGoneIsNotFoundByItsHandle() throws {
        try withTown(["d/e/a": "1", "x/y/z": "2"], cacheCapacity: 1) { town in
            let directory = try town.lookup("d/e").inode
            let file = try town.lookup("d/e/a").inode
            _ = try town.lookup("x/y/z")
            #expect(unlink("\(town.tree)/d/e/a") == 0)
            #expect(rmdir("\(town.tree)/d/e") == 0)
            for inode in [directory, file] {
                #expect(throws: Errno.self) { try town.getattr(inode, for: .me) }
            }
        }
    }

    /// Two directories are exchanged in the backing tree.
    ///
    /// They must not become each other's parents: a path walk would never end.
    @Test func directoriesSwappedInTheBackingTreeMakeNoCycle() throws {
        try withTown(["a/b/c": "1", "x/y": "2"], cacheCapacity: 1) { town in
            let outer = try town.lookup("a").inode
            let inner = try town.lookup("a/b").inode
            let file = try town.lookup("a/b/c").inode
            let held = try town.nodes.descriptor(of: inner)
            #expect(rename("\(town.tree)/a/b", "\(town.tree)/b") == 0)
            #expect(rename("\(town.tree)/a", "\(town.tree)/b/a") == 0)
            // For the kernel `inner` is still in `outer`; it looks up `outer` in it.
            #expect(try town.lookup(Array("a".utf8), in: inner).inode == outer)
            withExtendedLifetime(held) {}
            for path in ["x", "x/y", "daemon"] { _ = try town.nodes.descriptor(of: town.lookup(path).inode) }
            for inode in [outer, inner, file] { _ = try? town.getattr(inode, for: .me) }
            #expect(try town.read("b/c") == "1")
        }
    }

    // MARK: Names

    @Test func namesAreBytes() throws {
        let names: [[UInt8]] = [
            [0xff], [0xc3, 0x28, 0x0a], Array(repeating: 0xfe, count: 255), Array("e\u{301}".utf8),
            Array("\u{e9}".utf8),
        ]
        try withTown { town in
            for (number, name) in names.enumerated() {
                try name.asFileName { (name) throws(Errno) in
                    let (entry, opened) = try town.create(
                        name, in: .root, mode: S_IFREG | 0o600, flags: O_WRONLY, for: .me)
                    try town.write(String(repeating: "x", count: number), to: opened.handle)
                    try town.close(opened.handle)
                    town.forget(entry.inode, count: 1)
                }
            }
            for (number, name) in names.enumerated() {
                let entry = try town.lookup(name, in: .root)
                #expect(entry.status.st_size == number)
            }
            let opened = try town.opendir(.root, for: .me).handle
            let listed = try town.list(.root, opened).map(\.name)
            #expect(Set(listed).isSuperset(of: names))
            town.releasedir(opened)
        }
    }

    @Test func nameThatIsTooLongIsRefused() throws {
        try withTown { town in
            #expect(throws: Errno.fileNameTooLong) {
                try town.lookup(Array(repeating: 0x61, count: 256), in: .root)
            }
        }
    }

    @Test func pathMayBeLongerThanPathMax() throws {
        try withTown(cacheCapacity: 4) { town in
            var inode = InodeNumber.root
            let name = [UInt8](repeating: 0x64, count: 250)
            for _ in 0..<40 {
                inode = try name.asFileName { (name) throws(Errno) in
                    try town.mkdir(name, in: inode, mode: 0o755, for: .me).inode
                }
            }
            #expect(try town.getattr(inode, for: .me).status.isDirectory)
        }
    }

    // MARK: Reused inode numbers

    /// A file removed from the backing tree leaves its inode number to the next one.
    ///
    /// References to the first must not reach the second.
    @Test func reusedInodeNumberIsAnotherNode() throws {
        try withTown { town in
            func make() throws -> FileStatus {
                let made = try OwnedDescriptor(
                    opening: "\(town.tree)/a", in: AT_FDCWD, O_WRONLY | O_CREAT | O_EXCL, mode: 0o600)
                return try FileStatus(of: made.rawValue)
            }
            // Most file systems reuse the number at once, but another test's file may
            // have taken it.
            for _ in 0..<1000 {
                _ = try make()
                let first = try town.lookup("a")
                #expect(unlink("\(town.tree)/a") == 0)
                let second = try make()
                guard second.st_ino == first.status.st_ino else {
                    #expect(unlink("\(town.tree)/a") == 0)
                    continue
                }
                #expect(try town.lookup("a").inode != first.inode)
                #expect(throws: Errno.staleNFSFileHandle) { try town.getattr(first.inode, for: .me) }
                return
            }
            Issue.record("the backing file system gave out other inode numbers")
        }
    }

    @Test func unnamedFileMayBeGivenAName() throws {
        try withTown { town in
            let (entry, opened) = try Array("/".utf8).asFileName { (name) throws(Errno) in
                try town.create(
                    name, in: .root, mode: S_IFREG | 0o600, flags: O_RDWR | clinux_tmpfile, for: .me)
            }
            try town.write("text", to: opened.handle)
            #expect(try town.getattr(entry.inode, for: .me).status.st_nlink == 0)
            let named = try Array("named".utf8).asFileName { (name) throws(Errno) in
                try town.link(entry.inode, to: name, in: .root, for: .me)
            }
            #expect(named.inode == entry.inode)
            #expect(named.status.st_nlink == 1)
            #expect(try town.read("named") == "text")
            town.release(opened.handle)
        }
    }
}
