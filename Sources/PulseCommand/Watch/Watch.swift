import ArgumentParser
import Daemon
import Glibc
import Linux
import SystemPackage

/// `pulsefs watch`.
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
        let place = try TownPath(town)
        guard let mount = place.mount else { throw Failure("\(place.path) is not mounted.", .notMounted) }
        // Fails before the alternate screen would hide the message.
        _ = try StatusFile.read(of: mount.town).get(from: mount)
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
                let text = json ? String(line) : JSONText.decode(String(line)).map { (event: TownEvent) in event.line }
                guard write(text ?? TerminalText.printable(String(line))) else { return }
            }
            if let failure = seen.failure { throw failure }
            if seen.trouble != trouble {
                // The duration in the text changes all the time.
                if trouble == nil || seen.trouble == nil {
                    PulseFS.printError(seen.trouble.map { "\($0); waiting." } ?? "\(town) answers again.")
                }
                trouble = seen.trouble
            }
        }
    }

    /// False if the output is closed.
    private func write(_ line: String) -> Bool {
        var rest = Array((line + "\n").utf8)[...]
        while !rest.isEmpty {
            let count = try? retryingInterrupts {
                rest.withUnsafeBytes { Glibc.write(STDOUT_FILENO, $0.baseAddress, $0.count) }
            }
            guard let count, count > 0 else { return false }
            rest = rest.dropFirst(count)
        }
        return true
    }

    // MARK: The table

    /// The action of a key or signal.
    private enum Wish: Equatable {
        case scroll(by: Int)
        case redraw
        case end
        case stop
        case die(signal: CInt)
    }

    /// The shortest and the longest time between two redraws.
    private static let pause: Duration = .milliseconds(250)
    private static let tick: Duration = .seconds(1)

    private func showTable(of town: String, on terminal: consuming Terminal) throws {
        // Before any thread starts, which would receive them otherwise.
        let signals = try OwnedDescriptor(blocking: [SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGTSTP])
        let follower = try TownFollower(of: town, for: .table)
        try follower.start()
        var screen = WatchScreen(town: town, host: Host.name)
        var first = 0
        var hasChanged = true
        var drawn = ContinuousClock.now - Self.tick
        terminal.enter()
        while true {
            var questions = [
                pollfd(fd: signals.rawValue, events: Int16(POLLIN), revents: 0),
                pollfd(fd: terminal.descriptor, events: Int16(POLLIN), revents: 0),
                pollfd(fd: follower.changed.descriptor, events: Int16(hasChanged ? 0 : POLLIN), revents: 0),
            ]
            if terminal.isWaiting { questions[1].events |= Int16(POLLOUT) }
            poll(&questions, until: drawn + (hasChanged ? Self.pause : Self.tick))
            if questions[2].revents != 0 { hasChanged = follower.changed.wait(until: .now) }
            terminal.flush()

            var wishes = signals.nextSignal().map { [Self.wish(signal: $0)] } ?? []
            if questions[1].revents & ~Int16(POLLOUT) != 0 {
                wishes += terminal.keys().map { Self.wishes(keys: $0, page: terminal.size.rows - 4) } ?? [.end]
            }
            for wish in wishes {
                switch wish {
                case .scroll(let rows):
                    first = max(0, min(first + rows, screen.lastFirst(terminal.size)))
                case .redraw: terminal.clear()
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
                drawn = .now - Self.tick
            }

            guard drawn + (hasChanged ? Self.pause : Self.tick) <= .now, !terminal.isWaiting else { continue }
            let seen = follower.look()
            drawn = .now
            hasChanged = false
            if let failure = seen.failure {
                terminal.leave()
                throw failure
            }
            if seen.isBlank { continue }
            (screen.rows, screen.mirror, screen.trouble) = (seen.rows, seen.mirror, seen.trouble)
            terminal.show(screen.lines(terminal.size, at: drawn, from: first))
        }
    }

    private static func wish(signal: CInt) -> Wish {
        switch signal {
        case SIGWINCH: .redraw
        case SIGTSTP: .stop
        case SIGINT: .end
        default: .die(signal: signal)
        }
    }

    /// Terminals send several bytes for special keys.
    private static func wishes(keys: [UInt8], page: Int) -> [Wish] {
        let named: [(String, Wish)] = [
            ("\u{1b}[A", .scroll(by: -1)), ("\u{1b}OA", .scroll(by: -1)), ("k", .scroll(by: -1)),
            ("\u{1b}[B", .scroll(by: 1)), ("\u{1b}OB", .scroll(by: 1)), ("j", .scroll(by: 1)),
            ("\u{1b}[5~", .scroll(by: -page)), ("b", .scroll(by: -page)),
            ("\u{1b}[6~", .scroll(by: page)), (" ", .scroll(by: page)),
            ("\u{1b}[H", .scroll(by: -1 << 30)), ("\u{1b}[1~", .scroll(by: -1 << 30)), ("g", .scroll(by: -1 << 30)),
            ("\u{1b}[F", .scroll(by: 1 << 30)), ("\u{1b}[4~", .scroll(by: 1 << 30)), ("G", .scroll(by: 1 << 30)),
            ("\u{0c}", .redraw), ("q", .end), ("Q", .end), ("\u{03}", .end),
        ]
        var wishes: [Wish] = []
        var rest = keys[...]
        while !rest.isEmpty {
            if let (key, wish) = named.first(where: { rest.starts(with: $0.0.utf8) }) {
                wishes.append(wish)
                rest = rest.dropFirst(key.utf8.count)
            } else {
                rest = rest.dropFirst()
            }
        }
        return wishes
    }

    /// Dies of the signal, so that the parent sees the cause.
    private static func die(of number: CInt) -> Never {
        signal(number, SIG_DFL)
        var set = sigset_t()
        sigemptyset(&set)
        sigaddset(&set, number)
        kill(getpid(), number)
        sigprocmask(SIG_UNBLOCK, &set, nil)
        Glibc.exit(128 + number)
    }
}
