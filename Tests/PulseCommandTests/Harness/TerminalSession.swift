import Glibc
import SystemPackage

/// A program in a real terminal: tmux(1), with a server of the test's own.
///
/// The server is killed when the session is let go of, whatever has happened.
final class TerminalSession {
    private let socket: String

    /// Starts a shell script in a terminal of a size.
    init(
        _ script: String, columns: Int, rows: Int, in scratch: Scratch, environment: [String: String] = [:]
    ) throws {
        socket = "\(scratch.path)/tmux-\(columns)x\(rows)"
        let variables = environment.map { ["-e", "\($0.key)=\($0.value)"] }.joined()
        try tmux(
            ["new-session", "-d", "-x", "\(columns)", "-y", "\(rows)"] + variables + ["sh", "-c", script])
    }

    deinit {
        _ = try? Command(["tmux", "-S", socket, "kill-server"]).run()
    }

    @discardableResult
    private func tmux(_ words: [String]) throws -> String {
        try Command(["tmux", "-f", "/dev/null", "-S", socket] + words).output()
    }

    /// What is on the screen, without spaces at the ends of lines and without empty lines at the end.
    func screen() throws -> String {
        var text = try tmux(["capture-pane", "-p"])[...]
        while text.last?.isWhitespace == true { text.removeLast() }
        return String(text)
    }

    /// The same, for a message.
    var shown: String { (try? screen()) ?? "no screen" }

    /// The same with escape sequences.
    func colouredScreen() throws -> String {
        try tmux(["capture-pane", "-p", "-e"])
    }

    /// Whether a program has the alternate screen, and whether the cursor is to be seen.
    func state() throws -> (isAlternate: Bool, hasCursor: Bool) {
        let words = try tmux(["display-message", "-p", "#{alternate_on} #{cursor_flag}"])
        return (words.hasPrefix("1"), words.hasSuffix("1\n"))
    }

    /// Presses keys, by tmux's names for them.
    func press(_ keys: String...) throws {
        try tmux(["send-keys"] + keys)
    }

    func resize(columns: Int, rows: Int) throws {
        try tmux(["resize-window", "-x", "\(columns)", "-y", "\(rows)"])
    }
}
