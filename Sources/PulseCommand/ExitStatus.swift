/// What the program's exit status says.
enum ExitStatus: Int32, CaseIterable {
    case success = 0
    case failed = 1
    case couldNotTell = 2
    case notMounted = 3
    case alreadyMounted = 4
    case busy = 5
    /// ArgumentParser's own for wrong arguments, `EX_USAGE` in sysexits.h.
    case usage = 64

    var meaning: String {
        switch self {
        case .success: "done"
        case .failed: "failed"
        case .couldNotTell: "could not tell"
        case .notMounted: "not mounted"
        case .alreadyMounted: "already mounted"
        case .busy: "in use"
        case .usage: "wrong arguments"
        }
    }

    static let overview =
        "Exit status: " + allCases.map { "\($0.rawValue) \($0.meaning)" }.joined(separator: ", ") + "."
}

/// Why a command ends without having done its work: a line for a person, and the exit status.
struct Failure: Error, CustomStringConvertible {
    let message: String
    let status: ExitStatus

    var description: String { message }

    init(_ message: String, _ status: ExitStatus = .failed) {
        self.message = message
        self.status = status
    }
}
