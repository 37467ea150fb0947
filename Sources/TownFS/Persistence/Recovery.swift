import Glibc
import Linux
import Liveness
import Logging
import SystemPackage

/// Writes back from the journal of a worker that has died.
package final class Recovery: Sendable {
    private let backing: BackingTree
    private let journal: Journal
    private let log: Logger

    package init(in backing: BackingTree, journal: Journal, log: Logger) {
        self.backing = backing
        self.journal = journal
        self.log = log
    }

    /// Writes every document that its backing file does not hold, and removes unlinked files.
    package func run() {
        var directories: Set<[UInt8]> = []
        for (path, event) in journal.replay() {
            let (parent, name) = path.parentAndName
            directories.insert(parent)
            do throws(Errno) {
                try backing.withDirectory(at: parent) { (directory) throws(Errno) in
                    switch event {
                    case .content(let content):
                        try BackingDocument.replace(name, in: directory, with: content, now: .now)
                    case .unlinked:
                        // Another type of file may have the name by now.
                        guard try BackingDocument.open(name, in: directory) != nil else { return }
                        _ = name.withPointer { unlinkat(directory, $0, 0) }
                    case .clean: break
                    }
                }
            } catch {
                log.error("cannot write back \(String(printable: path)): \(error)")
            }
        }
        // The worker may have died between creating a temporary file and renaming it.
        for path in directories {
            do throws(Errno) {
                try BackingDocument.removeTemporaries(in: backing.directory(at: path), scope: nil)
            } catch .noSuchFileOrDirectory {
            } catch {
                log.warning("cannot remove temporary files in \(String(printable: path)): \(error)")
            }
        }
    }
}
