import CLinux
import Glibc
import Linux
import SystemPackage

/// systemd, where it has started the keeper as a service.
///
/// The corresponding functions are sd_pid_notify_with_fds(3) and sd_listen_fds_with_names(3).
package enum ServiceManager {
    private static let socketVariable = "NOTIFY_SOCKET"
    /// The number of the first descriptor that it passes to a service.
    private static let firstDescriptor: CInt = 3

    static var isPresent: Bool { getenv(socketVariable) != nil }

    /// Keeps this process and those that it starts from notifying it.
    static func leave() { unsetenv(socketVariable) }

    /// Notifies it of the state of the service.
    ///
    /// Does nothing if it is not present.
    ///
    /// - Parameter descriptors: Sent with the message.
    static func notify(_ state: String, with descriptors: [CInt] = []) {
        guard let path = getenv(socketVariable).map({ String(cString: $0) }), let first = path.first else { return }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        // A name that begins with @ is in the abstract namespace; its first byte is NUL.
        let bytes = (first == "@" ? "\0" + path.dropFirst() : path).utf8
        guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else { return }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        let number = socket(AF_UNIX, CInt(SOCK_DGRAM.rawValue) | O_CLOEXEC, 0)
        guard number >= 0 else { return }
        let socket = OwnedDescriptor(takingOwnershipOf: number)
        // because sun_path is a stored property, it has an offset.
        let size = socklen_t(MemoryLayout.offset(of: \sockaddr_un.sun_path)! + bytes.count)
        let isConnected = withUnsafePointer(to: &address) { address in
            address.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(socket.rawValue, $0, size) == 0 }
        }
        guard isConnected else { return }
        try? sendMessage(Array(state.utf8), with: descriptors, to: socket.rawValue)
    }

    // MARK: Descriptors

    /// Has it keep a descriptor, for the time after all processes of the service have died.
    static func keep(_ descriptor: CInt, as name: String) {
        // Without FDPOLL=0 it refuses descriptors that poll(2) does not accept: those with O_PATH.
        notify("FDSTORE=1\nFDPOLL=0\nFDNAME=\(name)", with: [descriptor])
    }

    static func drop(_ name: String) { notify("FDSTOREREMOVE=1\nFDNAME=\(name)") }

    /// Takes what it has kept, by name.
    package static func takeDescriptors() -> [String: SharedDescriptor] {
        func take(_ name: String) -> String? {
            defer { unsetenv(name) }
            return getenv(name).map { String(cString: $0) }
        }
        let process = take("LISTEN_PID").flatMap { pid_t($0) }
        let count = take("LISTEN_FDS").flatMap { CInt($0) } ?? 0
        let names = (take("LISTEN_FDNAMES") ?? "").split(separator: ":", omittingEmptySubsequences: false)
        guard process == getpid() else { return [:] }
        var descriptors: [String: SharedDescriptor] = [:]
        for (number, name) in zip(firstDescriptor..<firstDescriptor + count, names) {
            _ = fcntl(number, F_SETFD, FD_CLOEXEC)
            descriptors[String(name)] = SharedDescriptor(OwnedDescriptor(takingOwnershipOf: number))
        }
        return descriptors
    }
}
