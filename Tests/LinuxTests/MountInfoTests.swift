import Linux
import Testing

struct MountInfoTests {
    @Test func lineOfMountinfoIsRead() throws {
        let line =
            #"92 28 0:45 / /home/anna/my\040town rw,nosuid shared:7 master:3 - fuse.pulsefs a\134b rw,user_id=1000"#
        let info = try #require(MountInfo(line[...]))
        #expect(info.id == 92 && info.parent == 28)
        #expect(info.device == "0:45" && info.connection == "45")
        #expect(info.path == "/home/anna/my town")
        #expect(info.type == "fuse.pulsefs")
        #expect(info.source == #"a\b"#)
        #expect(info.user == 1000)
    }

    @Test(arguments: ["", "1 2 3:4 / /a rw", "x 28 0:45 / /a rw - ext4 /dev/a rw", "92 28 0:45 / /a rw shared:7 -"])
    func otherTextIsRefused(_ line: String) {
        #expect(MountInfo(line[...]) == nil)
    }
}
