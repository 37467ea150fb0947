import Glibc
import SystemPackage
import TestSupport
import Testing

extension EndToEnd {
    /// What open files cost the worker.
    @Suite struct OpenFilesTests {
        private func descriptors(of process: pid_t) throws -> Int {
            try Client.names(in: "/proc/\(process)/fd").count
        }

        @Test(arguments: [[], ["--no-passthrough"]]) func fileOpenForWritingTakesOneDescriptor(options: [String]) throws
        {
            try withMountedTown(options: options) { town in
                let paths = (0..<200).map { "\(town.path)/mayor/\($0)" }
                for path in paths { try Client.write("x", to: path) }
                let worker = try town.status().workerPid
                let before = try descriptors(of: worker)
                let files = try paths.map { try Client.open($0, O_RDWR) }
                #expect(try descriptors(of: worker) <= before + paths.count)
                for file in files { #expect(try Client.read(file) == "x") }
                for file in files { try Client.close(file) }
                // The kernel does not report when it has released them all.
                #expect(try eventually { try descriptors(of: worker) <= before })
            }
        }

        @Test func mostOfFewDescriptorsServeOpenFiles() throws {
            try withTown { town in
                for number in 0..<300 { try Client.write("\(number)", to: "\(town.path)/mayor/\(number)") }
                var command = town.pulsefsCommand(["mount", "--log", "\(town.scratch.path)/home/log", town.path])
                command.words = ["sh", "-c", #"ulimit -n 256; exec "$@""#, "sh"] + command.words
                try command.output()
                // Fill the cache of descriptors first.
                for number in 0..<300 { chmod("\(town.path)/mayor/\(number)", 0o600) }
                var files: [FileDescriptor] = []
                #expect(throws: Errno.tooManyOpenFiles) {
                    for number in 0..<300 { files.append(try Client.open("\(town.path)/mayor/\(number)", O_RDWR)) }
                }
                #expect(files.count > 190, "\(files.count)")
                for (number, file) in files.enumerated() { #expect(try Client.read(file) == "\(number)") }
                for file in files { try Client.close(file) }
                #expect(try Client.names(in: "\(town.path)/mayor").count == 300)
                #expect(
                    eventually { (0..<300).allSatisfy { (try? Client.read("\(town.path)/mayor/\($0)")) == "\($0)" } })
                try town.unmount()
            }
        }
    }
}
