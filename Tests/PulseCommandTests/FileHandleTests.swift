import Testing

extension EndToEnd {
    /// File handles, `name_to_handle_at(2)`: NFS servers and fanotify keep them across mounts.
    @Suite struct FileHandleTests {
        /// Prints a file's handle in hexadecimal; or, given such a handle, what is in its file, or an errno.
        private static let script = """
            import ctypes, errno, os, struct, sys
            libc = ctypes.CDLL(None, use_errno=True)
            room = ctypes.create_string_buffer(struct.pack('Ii', 128, 0) + bytes(128))
            if len(sys.argv) == 2:
                mount = ctypes.c_int()
                if libc.name_to_handle_at(-100, os.fsencode(sys.argv[1]), room, ctypes.byref(mount), 0):
                    sys.exit(os.strerror(ctypes.get_errno()))
                print(room.raw[:8 + struct.unpack_from('I', room.raw)[0]].hex())
            else:
                handle = bytes.fromhex(sys.argv[2])
                room[:len(handle)] = handle
                file = libc.open_by_handle_at(os.open(sys.argv[1], os.O_RDONLY), room, os.O_RDONLY)
                print(os.read(file, 100).decode() if file >= 0 else errno.errorcode[ctypes.get_errno()])
            """

        private func python(_ words: String...) throws -> String {
            var command = Command("python3", "-c", Self.script)
            command.words += words
            return try String(command.output().dropLast())
        }

        @Test(.needsRoot, .needs("python3")) func handleFromOneMountOpensNothingInTheNext() throws {
            try withMountedTown { town in
                try Client.write("this is secret", to: "\(town.path)/mayor/secret")
                try Client.write("this is public", to: "\(town.path)/mayor/public")
                try Client.write(KeepaliveDocument.text("gt"), to: town.keepalive)
                let secret = try python("\(town.path)/mayor/secret")
                let others = try ["mayor", ".runtime/keepalive.json", ".pulse/status.json"].map {
                    try python("\(town.path)/\($0)")
                }
                #expect(try python(town.path, secret) == "this is secret")
                try town.remount()
                // The first names that are looked up get the first inode numbers, as in the first mount.
                for name in ["mayor/public", "mayor/secret", ".pulse/metrics", "mayor", ".runtime/keepalive.json"] {
                    _ = try FileStatus("\(town.path)/\(name)")
                }
                for handle in [secret] + others { #expect(try python(town.path, handle) == "ESTALE") }
                #expect(try python(town.path, python("\(town.path)/mayor/secret")) == "this is secret")
            }
        }
    }
}
