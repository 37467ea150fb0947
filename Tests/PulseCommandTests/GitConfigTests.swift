import TestSupport
import Testing

@testable import PulseCommand

/// What `pulsefs doctor` reads of git's configuration.
@Suite struct GitConfigTests {
    @Test(arguments: [
        ("[core]\n\tfsyncMethod = batch\n", "batch"),
        ("[CORE]\nFSYNCMETHOD=batch", "batch"),
        ("[core] fsyncmethod = \"batch\" ; fast\n", "batch"),
        ("[core]\nfsyncMethod = batch\nfsyncMethod = fsync # safe\n", "fsync"),
        ("[core]\n[user]\nfsyncMethod = batch\n", nil),
        ("[core \"sub\"]\nfsyncMethod = batch\n", nil),
        ("[core]\n# fsyncMethod = batch\nfsync = all\n", nil),
        ("[core\nfsyncMethod", nil),
        ("", nil),
    ]) func lastSettingInTheSectionCounts(_ text: String, _ method: String?) {
        #expect(GitConfig.fsyncMethod(in: text) == method)
    }

    @Test func filesOfRepositoriesAndOfTheUserAreFound() throws {
        let batch = "[core]\nfsyncMethod = batch\n"
        try TemporaryDirectory.with { scratch in
            let town = "\(scratch.path)/town"
            let configurations = [("a/.git", batch), ("b/bare.git", batch), ("c/.git", "[core]\nbare = false\n")]
            for (repository, config) in configurations {
                try Command("mkdir", "-p", "\(town)/\(repository)/objects").output()
                try Client.write("ref: refs/heads/main\n", to: "\(town)/\(repository)/HEAD")
                try Client.write(config, to: "\(town)/\(repository)/config")
            }
            try Client.write(batch, to: "\(town)/config")
            let (system, own) = ("\(scratch.path)/system", "\(scratch.path)/own")
            try Client.write(batch, to: system)
            func found() -> Set<String> {
                Set(GitConfig.filesWithoutEffect(in: town, of: "/gt", personal: [system, own]))
            }
            let repositories: Set = ["/gt/a/.git/config", "/gt/b/bare.git/config"]
            #expect(found() == repositories.union([system]))
            // The user's file overrides that of the system.
            try Client.write("[core]\nfsyncMethod = fsync\n", to: own)
            #expect(found() == repositories)
        }
    }
}
