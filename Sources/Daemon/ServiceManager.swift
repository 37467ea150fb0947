import CLinux
import Glibc
import Linux

/// Notifies systemd of the state of a service (sd_notify(3)).
enum ServiceManager {
    /// Does nothing without `NOTIFY_SOCKET`.
    static func notify(_ state: String) {
        guard let path = getenv("NOTIFY_SOCKET").map({ String(cString: $0) }), let first = path.first else { return }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        // A name that begins with @ is in the abstract namespace; its first byte is NUL.
        let bytes = (first == "@" ? "\0" + path.dropFirst() : path).utf8
        guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else { return }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        let descriptor = socket(AF_UNIX, CInt(SOCK_DGRAM.rawValue) | O_CLOEXEC, 0)
        guard descriptor >= 0 else { return }
        let socket = OwnedDescriptor(takingOwnershipOf: descriptor)
        // because sun_path is a stored property, it has an offset.
        let size = socklen_t(MemoryLayout.offset(of: \sockaddr_un.sun_path)! + bytes.count)
        withUnsafePointer(to: &address) { address in
            address.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                _ = sendto(socket.rawValue, state, state.utf8.count, CInt(clinux_msg_nosignal), address, size)
            }
        }
    }
}
