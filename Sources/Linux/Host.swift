import Glibc

/// The machine that this process runs on.
package enum Host {
    /// The machine id (machine-id(5)), which tells hosts of the same name apart; empty if there is none.
    package static var machineID: String {
        String(((try? ProcFS.text("/etc/machine-id")) ?? "").prefix { !$0.isWhitespace })
    }

    /// The host name.
    ///
    /// The corresponding C function is `gethostname`.
    package static var name: String {
        var name = [CChar](repeating: 0, count: 256)
        guard gethostname(&name, name.count - 1) == 0 else { return "localhost" }
        return String(decoding: name.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}

/// The kernel that runs.
package enum Kernel {
    /// Major and minor version; (0, 0) if `uname` tells something else.
    package static var version: (Int, Int) {
        let release = (try? ProcFS.text("/proc/sys/kernel/osrelease")) ?? ""
        let numbers = release.split(whereSeparator: { !$0.isNumber }).prefix(2).compactMap { Int($0) }
        return numbers.count == 2 ? (numbers[0], numbers[1]) : (0, 0)
    }
}
