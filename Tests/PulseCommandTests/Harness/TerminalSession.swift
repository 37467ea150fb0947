import Glibc
import SystemPackage
import TestSupport

/// A program in a real terminal: tmux(1) with its own server.
///
/// The server is killed on deinit.
final class TerminalSession {
    private let socket: String

    /// Starts a shell script in a terminal of the given size.
    init(
        _ script: String, columns: Int, rows: Int, in scratch: TemporaryDirectory, environment: [String: String] = [:]
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

    /// The text on the screen, without trailing spaces and empty lines.
    func screen() throws -> String {
        var text = try tmux(["capture-pane", "-p"])[...]
        while text.last?.isWhitespace == true { text.removeLast() }
        return String(text)
    }

    /// The screen, for a message.
    var shown: String { (try? screen()) ?? "no screen" }

    /// The screen with escape sequences.
    func colouredScreen() throws -> String {
        try tmux(["capture-pane", "-p", "-e"])
    }

    /// Whether the alternate screen is on, and whether the cursor is visible.
    func state() throws -> (isAlternate: Bool, hasCursor: Bool) {
        let words = try tmux(["display-message", "-p", "#{alternate_on} #{cursor_flag}"])
        return (words.hasPrefix("1"), words.hasSuffix("1\n"))
    }

    /// Presses keys, in tmux's notation.
    func press(_ keys: String...) throws {
        try tmux(["send-keys"] + keys)
    }

    func resize(columns: Int, rows: Int) throws {
        try tmux(["resize-window", "-x", "\(columns)", "-y", "\(rows)"])
    }
}
