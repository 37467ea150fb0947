import Fuse
import Glibc
import Synchronization

/// The open files of a mount that this user could not open again, because of their modes.
///
/// Git makes its objects with a mode that forbids writing, and writes to them. Root may open everything.
final class KeptHandles: Sendable {
    private let kept: KeptDescriptors?
    private let held = Mutex<[FileHandle: Descriptor]>([:])

    init(in kept: KeptDescriptors?) {
        self.kept = geteuid() == 0 ? nil : kept
    }

    /// Whether this user may open everything, or there will be no successor.
    var isUnnecessary: Bool { kept == nil }

    /// Has the keeper hold an open file if its mode makes that necessary.
    func keep(_ file: BackingFile, of handle: FileHandle, mode: mode_t) {
        guard let kept else { return }
        let needed = (file.isWritable ? S_IWUSR : 0) | (file.flags & O_ACCMODE == O_WRONLY ? 0 : S_IRUSR)
        guard mode & needed != needed else { return }
        held.withLock { $0[handle] = file.path }
        kept.keep(file.path, of: handle)
    }

    func drop(_ handle: FileHandle) {
        guard let kept, let dropped = held.withLock({ $0.removeValue(forKey: handle) }) else { return }
        withExtendedLifetime(dropped) { kept.drop(handle) }
    }

    /// Takes what an earlier worker had open; the keeper goes on holding it.
    func take(_ handle: FileHandle) -> Descriptor? {
        guard let descriptor = kept?.remove(handle) else { return nil }
        held.withLock { $0[handle] = descriptor }
        return descriptor
    }

    /// Has a new keeper hold all.
    func keepAgain() {
        guard let kept else { return }
        for (handle, descriptor) in held.withLock({ $0 }) { kept.keep(descriptor, of: handle) }
    }
}
