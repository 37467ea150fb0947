import CLinux
import Glibc
import Linux
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import Daemon

extension EndToEnd {
    @Suite(.needsRoot) struct KernelMountTests {
        /// The owner of a town may replace a directory above it while root unmounts.
        @Test func replacedDirectoryNeverMakesRootUnmountAnotherMount() throws {
            try TemporaryDirectory.with { scratch in
                for name in ["home", "home/town", "victim", "victim/town"] { _ = try scratch.directory(name) }
                let (home, link) = ("\(scratch.path)/home", "\(scratch.path)/link")
                let victim = "\(scratch.path)/victim/town"
                symlink("victim", link)
                try #require(Glibc.mount("victim", victim, "tmpfs", 0, nil) == 0)
                defer { umount2(victim, CInt(MNT_DETACH)) }
                func isMounted(_ path: String) throws -> Bool {
                    try MountTable().entries.contains { $0.path == path }
                }
                let isDone = Atomic(false)
                try #require(Glibc.mount("town", "\(home)/town", "tmpfs", 0, nil) == 0)
                let entry = try #require(try MountTable().top(at: "\(home)/town"))
                defer { try? KernelMount.detach([entry]) }
                let swaps = try Thread(named: "owner") {
                    while !isDone.load(ordering: .relaxed) {
                        _ = clinux_renameat2(AT_FDCWD, home, AT_FDCWD, link, UInt32(RENAME_EXCHANGE))
                    }
                }
                let isUnmounted = try eventually {
                    try? KernelMount.unmount(entry, isLazy: false)
                    _ = KernelMount.isInUse(entry)
                    return try MountTable().entry(entry.id) == nil
                }
                isDone.store(true, ordering: .relaxed)
                swaps.join()
                #expect(isUnmounted)
                #expect(try isMounted(victim))
            }
        }
    }
}
