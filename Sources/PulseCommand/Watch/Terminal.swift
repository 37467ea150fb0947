import CLinux
import Glibc
import Linux
import SystemPackage

/// A terminal in full-screen mode.
///
/// It opens the device again, so that O_NONBLOCK affects no other process. With it, stopped output (Ctrl-S) does not keep
/// a signal from ending the program.
struct Terminal: ~Copyable {
    private let device: OwnedDescriptor
    private let before: termios
    private let hasColours: Bool
    private var waiting: [UInt8] = []

    /// Whether output is buffered: wait until `descriptor` is writable, then call `flush`.
    var isWaiting: Bool { !waiting.isEmpty }
    var descriptor: CInt { device.rawValue }

    /// Nil if standard output is not a terminal, or a dumb one.
    init?() {
        let kind = getenv("TERM").map { String(cString: $0) } ?? ""
        guard isatty(STDOUT_FILENO) == 1, !kind.isEmpty, kind != "dumb", let name = ttyname(STDOUT_FILENO),
            let device = try? OwnedDescriptor(opening: name, in: AT_FDCWD, O_RDWR | O_NONBLOCK | O_NOCTTY)
        else { return nil }
        var modes = termios()
        guard tcgetattr(device.rawValue, &modes) == 0 else { return nil }
        self.device = device
        before = modes
        // https://no-color.org: set, and not empty.
        hasColours = getenv("NO_COLOR").map { $0.pointee == 0 } ?? true
    }

    var size: WatchScreen.Size {
        var size = winsize()
        guard clinux_ioctl(device.rawValue, UInt32(TIOCGWINSZ), &size) == 0, size.ws_col > 0, size.ws_row > 0 else {
            return WatchScreen.Size(columns: 80, rows: 24)
        }
        return WatchScreen.Size(columns: Int(size.ws_col), rows: Int(size.ws_row))
    }

    // MARK: Screen

    /// Switches to the alternate screen, without cursor and line editing.
    mutating func enter() {
        var modes = before
        modes.c_lflag &= ~tcflag_t(ICANON | ECHO)
        tcsetattr(device.rawValue, TCSADRAIN, &modes)
        // Without wrapping: a character of unexpected width then affects only its line.
        write("\u{1b}[?1049h\u{1b}[?25l\u{1b}[?7l\u{1b}[2J")
    }

    /// Restores the screen.
    ///
    /// Waits at most a second for stopped output.
    mutating func leave() {
        write("\u{1b}[0m\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l")
        let limit = ContinuousClock.now + .seconds(1)
        while isWaiting {
            var question = [pollfd(fd: device.rawValue, events: Int16(POLLOUT), revents: 0)]
            guard poll(&question, until: limit) else { break }
            flush()
        }
        waiting = []
        var modes = before
        // TCSANOW: draining would wait for a stopped terminal.
        tcsetattr(device.rawValue, TCSANOW, &modes)
    }

    /// Draws all lines over those before.
    mutating func show(_ lines: [WatchScreen.Line]) {
        var text = ""
        for (index, line) in lines.enumerated() {
            // Erased before writing: after a full line the cursor is still on its last column.
            text += "\u{1b}[\(index + 1);1H\u{1b}[K"
            for span in line {
                let code = span.style.rawValue
                text += hasColours && !code.isEmpty ? "\u{1b}[\(code)m\(span.text)\u{1b}[0m" : span.text
            }
        }
        if lines.count < size.rows { text += "\u{1b}[\(lines.count + 1);1H\u{1b}[J" }
        write(text)
    }

    // MARK: Bytes

    private mutating func write(_ text: String) {
        waiting += Array(text.utf8)
        flush()
    }

    /// Writes as much as possible without blocking.
    mutating func flush() {
        while !waiting.isEmpty {
            let count = waiting.withUnsafeBytes { Glibc.write(device.rawValue, $0.baseAddress, $0.count) }
            guard count > 0 else {
                // Any error but a full buffer: the terminal is gone.
                if Errno.current != .wouldBlock { waiting = [] }
                return
            }
            waiting.removeFirst(count)
        }
    }

    /// The bytes of pressed keys; nil when the terminal is gone.
    func keys() -> [UInt8]? {
        var room = [UInt8](repeating: 0, count: 256)
        let count = room.withUnsafeMutableBytes { read(device.rawValue, $0.baseAddress, $0.count) }
        if count > 0 { return Array(room.prefix(count)) }
        return count == -1 && (Errno.current == .wouldBlock || Errno.current == .interrupted) ? [] : nil
    }
}
