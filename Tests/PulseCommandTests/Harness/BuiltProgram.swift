import Glibc
import SystemPackage
import TestSupport

/// The `pulsefs` that end-to-end tests run: the release build, which is what ships.
///
/// `PULSEFS_PROGRAM` names another one, for example one built with a sanitizer. Outside CI, a release build that is missing
/// or older than a source gives way to the debug build that was made with the tests, with a notice.
enum BuiltProgram {
    /// The root of the package.
    static let sources = FilePath(#filePath).removingLastComponent().appending("../../..").lexicallyNormalized().string

    static let path: String = {
        if let named = getenv("PULSEFS_PROGRAM") { return String(cString: named) }
        let release = "\(sources)/.build/release/pulsefs"
        if isUpToDate(release) { return release }
        let command = "swift build -c release --static-swift-stdlib --product pulsefs"
        precondition(!isCI, "\(release) is missing or out of date: \(command)")
        print("NOTICE: \(release) is missing or out of date; the tests run \(debug). To test what ships: \(command)")
        return debug
    }()

    /// The debug build, beside the bundle of the tests.
    static let debug: String = {
        let bundle = CommandLine.arguments.first { $0.hasSuffix(".xctest") } ?? executable
        return FilePath(bundle).removingLastComponent().appending("pulsefs").string
    }()

    private static var executable: String {
        var target = [CChar](repeating: 0, count: Int(PATH_MAX))
        let count = readlink("/proc/self/exe", &target, target.count)
        return String(decoding: target.prefix(max(0, count)).map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    private static func isUpToDate(_ program: String) -> Bool {
        guard access(program, X_OK) == 0 else { return false }
        // -quit after the first source that is newer.
        let find = Command(
            "find", "\(sources)/Sources", "\(sources)/Package.swift", "-type", "f", "-newer", program, "-print", "-quit"
        )
        return (try? find.output()) == ""
    }
}
