import CLinux
import Glibc
import SystemPackage

/// Watches directories for changes of their entries (inotify(7)).
package struct Inotify: ~Copyable {
    package struct Event {
        package let watch: CInt
        /// Its kinds, as in inotify(7): `IN_CREATE` and others.
        package let mask: UInt32
        package let name: [UInt8]
    }

    private let events: OwnedDescriptor

    package init() throws(Errno) {
        events = OwnedDescriptor(
            takingOwnershipOf: try retryingInterrupts { inotify_init1(CInt(IN_CLOEXEC | IN_NONBLOCK)) })
    }

    /// Readable when `read` would return events.
    package var descriptor: CInt { events.rawValue }

    /// - Returns: the number of the watch.
    package func add(_ path: UnsafePointer<CChar>, _ mask: UInt32) throws(Errno) -> CInt {
        try retryingInterrupts { inotify_add_watch(events.rawValue, path, mask) }
    }

    /// A watch of a directory that was removed is gone already; that is no error.
    package func remove(_ watch: CInt) { inotify_rm_watch(events.rawValue, watch) }

    /// Some of the pending events; empty if there are none.
    package func read() -> [Event] {
        let size = 16 << 10
        return withUnsafeTemporaryAllocation(byteCount: size, alignment: MemoryLayout<inotify_event>.alignment) {
            room in
            let count = Glibc.read(events.rawValue, room.baseAddress, room.count)
            var found: [Event] = []
            var offset = 0
            while offset < count {
                let event = room.load(fromByteOffset: offset, as: inotify_event.self)
                let name = room[(offset + MemoryLayout<inotify_event>.size)...].prefix(Int(event.len)).prefix {
                    $0 != 0
                }
                found.append(Event(watch: event.wd, mask: event.mask, name: Array(name)))
                offset += MemoryLayout<inotify_event>.size + Int(event.len)
            }
            return found
        }
    }
}
