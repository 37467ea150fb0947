import CLinux
import Glibc
import SystemPackage

/// Sends one message, with descriptors (`SCM_RIGHTS`, unix(7)): at most three.
package func sendMessage(_ bytes: [UInt8], with descriptors: [CInt] = [], to socket: CInt) throws(Errno) {
    _ = try retryingInterrupts { clinux_send_message(socket, bytes, bytes.count, descriptors, descriptors.count) }
}

/// Receives one message of at most `maximumSize` bytes, and the descriptors that came with it.
///
/// - Returns: No bytes at the end of the socket.
package func receiveMessage(
    ofAtMost maximumSize: Int, from socket: CInt
) throws(Errno) -> (bytes: [UInt8], descriptors: [SharedDescriptor]) {
    var bytes = [UInt8](repeating: 0, count: maximumSize)
    var numbers = [CInt](repeating: -1, count: CLINUX_MOST_DESCRIPTORS)
    let count = try retryingInterrupts { clinux_receive_message(socket, &bytes, maximumSize, &numbers) }
    bytes.removeLast(maximumSize - Int(count))
    return (bytes, numbers.filter { $0 != -1 }.map { SharedDescriptor($0) })
}
