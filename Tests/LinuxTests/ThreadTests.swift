import CLinux
import Glibc
import Linux
import Synchronization
import Testing

struct ThreadTests {
    private struct Credentials: Equatable {
        let user: UInt32
        let group: UInt32
        let hasCapability: Bool

        /// Of the calling thread.
        static func current() -> Credentials {
            var words = [__user_cap_data_struct](repeating: .init(), count: 2)
            _ = clinux_capabilities(&words)
            // An invalid id changes nothing, and the former id is returned.
            return Credentials(
                user: UInt32(bitPattern: setfsuid(.max)), group: UInt32(bitPattern: setfsgid(.max)),
                hasCapability: words[0].effective & (1 << UInt32(CAP_CHOWN)) != 0)
        }
    }

    @Test(.disabled(if: geteuid() != 0, "needs root, to act for another user"))
    func newThreadHasTheRightsOfTheProcessAndNotOfItsCreator() throws {
        let seen = Mutex<[Credentials]>([])
        // A thread of its own, which may lose its rights.
        try Thread(named: "creator") {
            let before = Credentials.current()
            var words = [__user_cap_data_struct](repeating: .init(), count: 2)
            _ = clinux_capabilities(&words)
            words[0].effective &= ~(1 << UInt32(CAP_CHOWN))
            _ = clinux_set_capabilities(words)
            setfsgid(65534)
            setfsuid(65534)
            let creator = Credentials.current()
            try? Thread(named: "new") { seen.withLock { $0.append(Credentials.current()) } }.join()
            seen.withLock { $0 += [creator, before] }
        }.join()
        let credentials = seen.withLock { $0 }
        try #require(credentials.count == 3)
        #expect(credentials[0] == credentials[2])
        #expect(credentials[1] == Credentials(user: 65534, group: 65534, hasCapability: false))
    }
}
