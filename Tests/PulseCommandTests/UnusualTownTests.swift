import Glibc
import SystemPackage
import TestSupport
import Testing

extension ParallelEndToEnd {
    /// Towns on other file systems, inside each other, and with other mounts inside.
    @Suite(.needsRoot) struct UnusualTownTests {
        private func prepareDirectories(in path: String) throws {
            try shell("cd \(path); mkdir -p .runtime/heartbeats daemon deacon mayor")
        }

        /// Touches, remounts and works in a town, and checks the files afterwards.
        private func exercise(_ town: MountedTown) throws {
            let text = KeepaliveDocument.text("gt")
            try Client.write(text, to: town.keepalive)
            try Client.replace(town.activity, with: text)
            try town.shell("mkdir a; echo b > a/b; mv a c; ln -s c/b d; [ $(cat d) = b ]; echo e >> c/b; rm d; rm -r c")
            #expect(try Client.read(town.keepalive) == text)
            try town.remount()
            #expect(try Client.read(town.keepalive) == text)
            #expect(try town.status().documents.notWrittenDown == 0)
            try town.unmount()
            #expect(try Client.read(town.activity) == text)
            #expect(try Client.names(in: "\(town.path)/daemon") == ["activity.json"])
        }

        @Test(arguments: ["tmpfs", "overlay", "ext4", "xfs"]) func townWorksOnAnyFileSystem(type: String) throws {
            if type == "xfs", !isInstalled("mkfs.xfs") { return }
            try withTown { town in
                let place = try town.scratch.directory("place")
                switch type {
                case "tmpfs": try shell("mount -t tmpfs none \(town.path)")
                case "overlay":
                    // The upper directory of an overlay must not be on an overlay itself.
                    try shell(
                        """
                        mount -t tmpfs none \(place); mkdir \(place)/lower \(place)/upper \(place)/work
                        mkdir -p \(place)/lower/.runtime; printf '{}' > \(place)/lower/.runtime/keepalive.json
                        cd \(place)
                        mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work none \(town.path)
                        """)
                default:
                    try shell(
                        "truncate -s 400M \(place)/i; mkfs.\(type) -q \(place)/i; mount -o loop \(place)/i \(town.path)"
                    )
                }
                defer { for path in [town.path, place] { _ = try? Command("umount", "-l", path).run() } }
                try prepareDirectories(in: town.path)
                try town.mount()
                try exercise(town)
            }
        }

        @Test func townInsideATownIsIndependent() throws {
            try withMountedTown { outer in
                let inner = "\(outer.path)/mayor/inner"
                try Client.makeDirectory(inner)
                try prepareDirectories(in: inner)
                try outer.pulsefs("mount", inner).expectSuccess()
                defer { _ = try? outer.pulsefs("unmount", "--lazy", inner) }
                let (text, file) = (KeepaliveDocument.text("gt inner"), "\(inner)/.runtime/keepalive.json")
                try Client.write(text, to: file)
                try Client.write(KeepaliveDocument.text("gt outer"), to: outer.keepalive)
                let status = try MountedTown.Status(Client.read("\(inner)/.pulse/status.json"))
                #expect(status.town == inner && status.documents.touches == 1)
                #expect(try outer.status().town == outer.path)
                // The outer town is in use by the inner one.
                #expect(try outer.pulsefs("unmount", outer.path).status == 5)
                try outer.pulsefs("unmount", inner).expectSuccess()
                #expect(try Client.read(file) == text)
                #expect(try outer.status().town == outer.path)
            }
        }

        @Test func mountsInsideTheTownAreSeenThroughIt() throws {
            try withTown { town in
                try shell("mkdir \(town.path)/before \(town.path)/after; echo hidden > \(town.path)/before/f")
                try shell("mount -t tmpfs none \(town.path)/before; echo seen > \(town.path)/before/g")
                defer { _ = try? Command("umount", "-l", "\(town.path)/before").run() }
                try town.mount()
                // Through the mount, a directory leads into what was mounted on it.
                #expect(try town.shell("cat before/g") == "seen\n")
                #expect(try FileStatus("\(town.path)/before").st_ino != FileStatus("\(town.path)/after").st_ino)
                // A file system mounted later, on a directory of the town, works on top of it.
                try shell("mount -t tmpfs none \(town.path)/after; echo later > \(town.path)/after/h")
                #expect(try town.shell("cat after/h") == "later\n")
                #expect(try town.pulsefs("unmount", town.path).status == 5)
                try shell("umount \(town.path)/after")
                #expect(try town.shell("ls after") == "")
                try Client.write(KeepaliveDocument.text("gt"), to: town.keepalive)
                try town.unmount()
                #expect(try KeepaliveDocument(Client.read(town.keepalive)).lastCommand == "gt")
            }
        }
    }
}
