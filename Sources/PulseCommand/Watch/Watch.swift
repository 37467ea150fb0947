import ArgumentParser
import Daemon
import Glibc
import Linux
import SystemPackage

struct Watch: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show live which runtimes are alive.",
        discussion: """
            On a terminal, a table with problems first; arrow keys and space scroll, q or Ctrl-C quits. Elsewhere, one \
            line per event. Continues after a remount, and does not block 'pulsefs unmount'.
            """)

    @Argument(help: .town, completion: .directory)
    var town: String

    @Flag(help: "Print the lines of .pulse/events unchanged, also on a terminal.")
    var json = false

    func run() throws {
        let mount = try TownPath(town).requireMount()
        // Fails before the alternate screen would hide the message.
        _ = try TownAnswer.status(of: mount).get(from: mount)
        if !json, let terminal = Terminal() {
            try showTable(of: mount.town, on: terminal)
        } else {
            try printEvents(of: mount.town)
        }
    }

    // MARK: Lines

    private func printEvents(of town: String) throws {
        let follower = try TownFollower(of: town, for: .events)
        try follower.start()
        var trouble: String?
        while true {
            // Without requested events, poll(2) still reports a closed pipe.
            var questions = [
                pollfd(fd: follower.changed.descriptor, events: Int16(POLLIN), revents: 0),
                pollfd(fd: STDOUT_FILENO, events: 0, revents: 0),
            ]
            poll(&questions, until: .now + .seconds(1))
            if questions[1].revents != 0 { return }
            follower.changed.wait(until: .now)
            let seen = follower.look()
            for line in seen.lines {
                let line = String(line)
                let text = json ? line : TownEvent.printable(line) ?? TerminalText.printable(line)
                do {
                    _ = try FileDescriptor.standardOutput.writeAll((text + "\n").utf8)
                } catch Errno.brokenPipe {
                    return
                } catch {
                    throw Failure("cannot write an event: \(error)")
                }
            }
            if seen.trouble != trouble {
                // The duration in the text changes all the time.
                if trouble == nil || seen.trouble == nil {
                    PulseFS.printError(seen.trouble.map { "\($0); waiting." } ?? "\(town) answers again.")
                }
                trouble = seen.trouble
            }
        }
    }

    // MARK: The table

    private func showTable(of town: String, on terminal: consuming Terminal) throws {
        // Before any thread starts, which would receive them otherwise.
        let signals = try OwnedDescriptor(blocking: [SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGTSTP])
        let follower = try TownFollower(of: town, for: .table)
        try follower.start()
        var screen = WatchScreen(town: town, host: Host.name)
        var first = 0
        // When the screen is drawn again: at once if something changes after `earliest`, at the latest when `due`.
        var earliest = ContinuousClock.now
        var due = earliest
        terminal.enter()
        while true {
            var questions = [
                pollfd(fd: signals.rawValue, events: Int16(POLLIN), revents: 0),
                pollfd(fd: terminal.descriptor, events: Int16(POLLIN), revents: 0),
                pollfd(fd: follower.changed.descriptor, events: Int16(POLLIN), revents: 0),
            ]
            if terminal.isWaiting { questions[1].events |= Int16(POLLOUT) }
            poll(&questions, until: terminal.isWaiting ? nil : due)
            if follower.changed.wait(until: .now) { due = min(due, earliest) }
            terminal.flush()

            var actions = signals.nextSignal().map { [Action(signal: $0)] } ?? []
            if questions[1].revents & ~Int16(POLLOUT) != 0 {
                actions += terminal.keys().map { Action.list(keys: $0, page: terminal.size.rows - 4) } ?? [.end]
            }
            for action in actions {
                switch action {
                case .scroll(let rows):
                    first = max(0, min(first + rows, screen.lastFirst(terminal.size)))
                case .redraw: break
                case .end: return terminal.leave()
                case .stop:
                    terminal.leave()
                    kill(getpid(), SIGSTOP)
                    follower.resetSilence()
                    terminal.enter()
                case .die(let signal):
                    terminal.leave()
                    Self.die(of: signal)
                }
                due = .now
            }

            let now = ContinuousClock.now
            guard due <= now, !terminal.isWaiting else { continue }
            (earliest, due) = (now + .milliseconds(250), now + .seconds(1))
            let seen = follower.look()
            if seen.isBlank { continue }
            (screen.rows, screen.mirror, screen.trouble) = (Array(seen.rows.values), seen.mirror, seen.trouble)
            terminal.show(screen.lines(terminal.size, at: now, from: first))
        }
    }

    /// Dies of the signal, so that the parent sees the cause.
    private static func die(of number: CInt) -> Never {
        signal(number, SIG_DFL)
        var set = sigset_t()
        sigemptyset(&set)
        sigaddset(&set, number)
        sigprocmask(SIG_UNBLOCK, &set, nil)
        raise(number)
        Glibc.exit(128 + number)
    }
}

/// What a key or signal asks for.
private enum Action {
    case scroll(by: Int)
    case redraw
    case end
    case stop
    case die(signal: CInt)

    init(signal: CInt) {
        switch signal {
        case SIGWINCH: self = .redraw
        case SIGTSTP: self = .stop
        case SIGINT: self = .end
        default: self = .die(signal: signal)
        }
    }

    /// Terminals send several bytes for special keys.
    static func list(keys: [UInt8], page: Int) -> [Action] {
        let named: [(String, Action)] = [
            ("\u{1b}[A", .scroll(by: -1)), ("\u{1b}OA", .scroll(by: -1)), ("k", .scroll(by: -1)),
            ("\u{1b}[B", .scroll(by: 1)), ("\u{1b}OB", .scroll(by: 1)), ("j", .scroll(by: 1)),
            ("\u{1b}[5~", .scroll(by: -page)), ("b", .scroll(by: -page)),
            ("\u{1b}[6~", .scroll(by: page)), (" ", .scroll(by: page)),
            ("\u{1b}[H", .scroll(by: -1 << 30)), ("\u{1b}[1~", .scroll(by: -1 << 30)), ("g", .scroll(by: -1 << 30)),
            ("\u{1b}[F", .scroll(by: 1 << 30)), ("\u{1b}[4~", .scroll(by: 1 << 30)), ("G", .scroll(by: 1 << 30)),
            ("\u{0c}", .redraw), ("q", .end), ("Q", .end), ("\u{03}", .end),
        ]
        var actions: [Action] = []
        var rest = keys[...]
        while !rest.isEmpty {
            let match = named.first { rest.starts(with: $0.0.utf8) }
            if let match { actions.append(match.1) }
            rest = rest.dropFirst(match?.0.utf8.count ?? 1)
        }
        return actions
    }
}
