import CLinux
import Fuse
import Glibc
import Linux
import Liveness
import Synchronization
import SystemPackage

/// The signal file that a document was written to, and who could read it then.
final class DocumentSource: Sendable {
    /// Relative to the town root.
    let path: [UInt8]
    let ownership: SignalFile.Ownership

    init(path: [UInt8], ownership: SignalFile.Ownership) {
        self.path = path
        self.ownership = ownership
    }
}

/// Decides to which users `.pulse` shows a document: to those who can read the signal file that it was written to.
///
/// Root and the user who mounted see all. Another user must be allowed to read the file, both when the document was
/// written and now, and to search all directories on its path. A document of unknown source, such as another host's, is
/// not shown to them. Access control lists are not evaluated: in a directory that has one, only its owner sees
/// documents.
final class DocumentAccess: Sendable {
    /// How long reading directories may take; after that the document is not shown.
    private static let limit: Duration = .milliseconds(100)

    private let backing: BackingTree
    private let signals: SignalDirectory
    private let server = geteuid()
    private let threads = HelperThreads()

    init(in backing: BackingTree, _ signals: SignalDirectory) {
        self.backing = backing
        self.signals = signals
    }

    /// Whether a document may be shown to a caller.
    func allows(_ document: Document, for request: Request) -> Bool {
        if request.callingUser == 0 || request.callingUser == server { return true }
        guard let source = document.source as? DocumentSource else { return false }
        let reader = Reader(request)
        guard reader.mayRead(source.ownership) else { return false }
        let (parent, name) = source.path.parentAndName
        let known = signals.known(name, in: parent)?.committedOwnership
        if let known, !reader.mayRead(known) { return false }
        // The directories may lie in another mount, which may hang.
        let isAllowed = Mutex(false)
        let hasAnswer = threads.run(within: Self.limit) { [backing] in
            let answer = (try? reader.maySearch(parent, in: backing, andRead: known == nil ? name : nil)) ?? false
            isAllowed.withLock { $0 = answer }
        }
        return hasAnswer && isAllowed.withLock { $0 }
    }

    private struct Reader: Sendable {
        let user: uid_t
        let groups: Set<gid_t>

        init(_ request: Request) {
            user = request.callingUser
            let files = ProcessFiles.isOwnNamespace ? ProcessFiles(number: request.thread) : nil
            groups = Set([request.callingGroup] + (files?.credentials()?.groups ?? []))
        }

        func mayRead(_ ownership: SignalFile.Ownership) -> Bool {
            may(0o4, ownership.mode, ownership.user, ownership.group)
        }

        /// Whether all directories of a path can be searched, and the backing file of that name can be read if it
        /// exists.
        func maySearch(_ path: [UInt8], in backing: BackingTree, andRead name: NodeName?) throws(Errno) -> Bool {
            var end = path.startIndex
            while true {
                let directory = try backing.directory(at: Array(path[..<end]))
                let status = try FileStatus(of: directory.rawValue)
                guard may(0o1, status.st_mode, status.st_uid, status.st_gid) else { return false }
                if user != status.st_uid, directory.hasAccessControlList { return false }
                guard end < path.endIndex else {
                    guard let file = try name?.status(in: directory.rawValue) else { return true }
                    return may(0o4, file.st_mode, file.st_uid, file.st_gid)
                }
                let rest = path[end...].drop { $0 == UInt8(ascii: "/") }
                end = rest.firstIndex(of: UInt8(ascii: "/")) ?? path.endIndex
            }
        }

        /// - Parameter permission: As a digit of a mode.
        private func may(_ permission: mode_t, _ mode: mode_t, _ owner: uid_t, _ group: gid_t) -> Bool {
            let digit = user == owner ? mode >> 6 : groups.contains(group) ? mode >> 3 : mode
            return digit & permission != 0
        }
    }
}

extension Descriptor {
    fileprivate var hasAccessControlList: Bool {
        let size = try? callByPath { CLinux.getxattr($0, "system.posix_acl_access", nil, 0) }
        return size.map { $0 > 0 } ?? false
    }
}
