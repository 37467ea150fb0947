import Glibc
import SystemPackage
import TestSupport
import Testing

extension ParallelEndToEnd {
    /// Towns on a disk that fails.
    ///
    /// The document stays in memory, the status shows it, and it is written when the disk works.
    @Suite(.needsRoot, .needs("mkfs.ext4", "losetup")) struct BackingErrorTests {
        /// Calls `body` with a town on an ext4 of its own, and the path where that is mounted, too.
        ///
        /// Its image is in a tmpfs, at `<disk>.image`. When the tmpfs is full, writes to the device fail with EIO.
        private func withDisk(_ body: (_ town: MountedTown, _ disk: String) throws -> Void) throws {
            try withTown { town in
                let disk = try town.scratch.directory("disk")
                let image = try town.scratch.directory("disk.image")
                try shell("mount -t tmpfs -o size=40M none \(image)")
                defer { _ = try? Command("umount", "-l", image).run() }
                try shell("truncate -s 32M \(image)/image; mkfs.ext4 -q \(image)/image")
                try shell("mount -o loop \(image)/image \(disk); mkdir \(disk)/.runtime \(disk)/daemon")
                defer { _ = try? Command("umount", "-l", disk).run() }
                try shell("mount --bind \(disk) \(town.path)")
                defer { _ = try? Command("umount", "-l", town.path).run() }
                try town.mount()
                try body(town, disk)
            }
        }

        /// ext4 remounts itself read-only after an error.
        @Test func readOnlyDiskFailsAnFsyncAndIsWrittenWhenItIsWritableAgain() throws {
            try withDisk { town, disk in
                let text = KeepaliveDocument.text("gt")
                try Client.write(text, to: town.keepalive)
                try shell("mount -o remount,ro \(disk)")
                #expect(throws: Errno.readOnlyFileSystem) { try Client.write("x", to: "\(town.path)/plain") }
                // Touches go on: they need no disk.
                let later = KeepaliveDocument.text("gt later")
                try Client.write(later, to: town.keepalive)
                #expect(try Client.read(town.keepalive) == later)
                let file = try Client.open(town.keepalive, O_RDONLY)
                #expect(throws: Errno.readOnlyFileSystem) { try Client.synchronize(file) }
                try Client.close(file)
                #expect(try town.status().documents.notWrittenDown == 1)
                #expect(try town.metric("pulsefs_documents_pending") == 1)
                let refusal = try town.pulsefs("unmount", town.path)
                #expect(refusal.status == 1 && refusal.errors.contains("--lazy"), "\(refusal)")
                #expect(town.isMounted)

                try shell("mount -o remount,rw \(disk)")
                try town.synchronize()
                #expect(try town.status().documents.notWrittenDown == 0)
                #expect(try Client.read("\(disk)/.runtime/keepalive.json") == later)
                try town.unmount()
                #expect(try Client.read(town.keepalive) == later)
            }
        }

        @Test func failingDiskFailsAnFsyncButNoTouch() throws {
            try withDisk { town, disk in
                try Client.write(KeepaliveDocument.text("gt"), to: town.keepalive)
                let filler = try Command("dd", "if=/dev/zero", "of=\(disk).image/filler", "bs=64k").run()
                #expect(filler.errors.contains("No space left"), "\(filler)")
                // EIO, or EROFS once ext4 has given up.
                let file = try Client.open(town.keepalive, O_RDONLY)
                #expect(throws: Errno.self) { try Client.synchronize(file) }
                try Client.close(file)
                let later = KeepaliveDocument.text("gt later")
                try Client.write(later, to: town.keepalive)
                #expect(try Client.read(town.keepalive) == later)
                #expect(try town.status().documents.notWrittenDown == 1)
                #expect(try town.pulsefs("unmount", town.path).status == 1)
                #expect(try town.pulsefs("unmount", "--lazy", town.path).status == 0)
                #expect(eventually { town.processes.isEmpty })
            }
        }

        /// All workers are killed while the disk is full.
        ///
        /// The keeper cannot recover the document, and reports that.
        @Test func recoveryOnAFullDiskGivesTheTownBack() throws {
            try withDisk { town, disk in
                try Client.write(KeepaliveDocument.text("gt"), to: town.keepalive)
                for size in [1 << 20, 1 << 12, 1] {
                    #expect(throws: Errno.noSpace) {
                        for number in 0... {
                            try Client.write(
                                String(repeating: "x", count: size), to: "\(disk)/filler-\(size)-\(number)")
                        }
                    }
                }
                try town.killWorkers()
                #expect(eventually { town.processes.isEmpty })
                #expect(town.loggedText.contains("keepalive.json"), "\(town.loggedText)")
            }
        }
    }
}
