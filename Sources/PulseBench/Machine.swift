import Glibc

/// What the figures were taken on.
struct Machine: Codable {
    let kernel: String
    let architecture: String
    let cores: Int
    /// As `/proc/cpuinfo` calls it, where it does.
    let processor: String?
    /// Who ran it.
    var user: String?

    init() {
        var names = utsname()
        uname(&names)
        kernel = text(names.release)
        architecture = text(names.machine)
        cores = sysconf(Int32(_SC_NPROCESSORS_ONLN))
        let cpuinfo = String(decoding: (try? GoFile(path: "/proc/cpuinfo").read()) ?? [], as: UTF8.self)
        let model = cpuinfo.split(separator: "\n").first { $0.hasPrefix("model name") }
        user = getpwuid(geteuid()).map { String(cString: $0.pointee.pw_name) } ?? "\(geteuid())"
        processor = model?.split(separator: ":").last.map { String($0.drop { $0 == " " }) }
    }
}

/// A fixed array of C characters, which Swift sees as a tuple, as text.
private func text<Characters>(_ characters: Characters) -> String {
    withUnsafeBytes(of: characters) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
}
