import Glibc
import Linux

/// The machine that this runs on.
enum Host {
    /// What tells it from other machines of the same name (machine-id(5)); empty where there is nothing.
    static var machineID: String {
        guard let file = try? OwnedDescriptor(opening: "/etc/machine-id", in: AT_FDCWD, O_RDONLY),
            let text = try? file.readToEnd()
        else { return "" }
        return String(text.prefix { !$0.isWhitespace })
    }

    /// What it is called.
    ///
    /// The corresponding C function is `gethostname`.
    static var name: String {
        var name = [CChar](repeating: 0, count: 256)
        guard gethostname(&name, name.count - 1) == 0 else { return "localhost" }
        return String(decoding: name.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}
