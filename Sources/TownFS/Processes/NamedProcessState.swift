import CLinux
import Glibc
import Linux
import Liveness
import SystemPackage

/// What a process that a document names does.
enum NamedProcessState: Sendable {
    /// With its pidfd.
    case running(RootProcesses.Process, Descriptor)
    /// It has ended, or another process has its number.
    case ended(Touch.Process)
    /// Its number is of another pid namespace, or processes are not examined.
    case unknown

    /// By how much the start of a process and the time of a file may be wrong: both are coarse.
    private static let tolerance: Duration = .seconds(2)

    /// - Parameters:
    ///   - time: When the document was written. Unless it tells the start of its process, one that started later is another.
    ///   - now: The current time, by the same clock.
    init(of named: SignalFormat.NamedProcess, at time: WallTime, now: WallTime) {
        // Opened before `/proc` is read: if the number is used again in between, the pidfd has ended.
        let ended = Self.ended(Touch.Process(pid: named.pid, program: ""))
        let descriptor: Descriptor
        do throws(Errno) {
            let opened = try retryingInterrupts { clinux_pidfd_open(named.pid) }
            descriptor = Descriptor(OwnedDescriptor(takingOwnershipOf: opened))
        } catch {
            // A look that fails, for example without free descriptors, proves nothing.
            self = error == .noSuchProcess ? ended : .unknown
            return
        }
        let stat = ProcessFiles(number: named.pid).stat()
        if descriptor.hasEnded {
            self = ended
        } else if let stat {
            let process = RootProcesses.Process(
                pid: named.pid, startTime: stat.image.startTime, program: stat.program)
            let isSame = Self.isSame(stat.image.startTime, named, at: time, now: now)
            self = isSame ? .running(process, descriptor) : ended
        } else {
            self = .unknown
        }
    }

    private static func isSame(
        _ startTime: UInt64, _ named: SignalFormat.NamedProcess, at time: WallTime, now: WallTime
    ) -> Bool {
        if let expected = named.startTime { return startTime == expected }
        let started = now + (.zero - ClockTicks.age(since: startTime))
        return started - time < tolerance
    }
}

extension Descriptor {
    /// Whether the process of a pidfd has ended.
    var hasEnded: Bool {
        var question = [pollfd(fd: rawValue, events: Int16(POLLIN), revents: 0)]
        return poll(&question, until: .now)
    }
}
