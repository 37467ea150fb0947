/// Exit statuses of the program.
package enum ExitStatus: Int32, CaseIterable {
    case success = 0
    case failed = 1
    case couldNotTell = 2
    case notMounted = 3
    case alreadyMounted = 4
    case busy = 5
    /// ArgumentParser's status for wrong arguments, `EX_USAGE` in sysexits.h.
    case usage = 64

    package var meaning: String {
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

    package static let overview =
        "Exit status: " + allCases.map { "\($0.rawValue) \($0.meaning)" }.joined(separator: ", ") + "."
}

/// Why a command failed: one line for the user, and the exit status.
package struct Failure: Error, CustomStringConvertible {
    package let message: String
    package let status: ExitStatus

    package var description: String { message }

    package init(_ message: String, _ status: ExitStatus = .failed) {
        self.message = message
        self.status = status
    }
}
