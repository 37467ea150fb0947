/// What the program's exit status says.
enum ExitStatus: Int32 {
    case success = 0
    case failed = 1
    case couldNotTell = 2
    case notMounted = 3
    case alreadyMounted = 4
    case busy = 5
    /// ArgumentParser's own for wrong arguments, `EX_USAGE` in sysexits.h.
    case usage = 64

    static let overview = """
        Exit status: 0 done, 1 failed, 2 could not tell, 3 not mounted, 4 already mounted, 5 in use, 64 wrong arguments.
        """
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
