import ArgumentParser
import Daemon
import Glibc
import Liveness
import TownFS

/// `pulsefs status`.
struct Status: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show the state of a town.",
        discussion: "Programs read TOWN/.pulse/status.json.")

    @Argument(help: .town, completion: .directory)
    var town: String

    @Flag(help: "Print .pulse/status.json unchanged.")
    var json = false

    func run() throws {
        let place = try TownPath(town)
        guard let mount = place.mount else { throw Failure("\(place.path) is not mounted.", .notMounted) }
        try show(StatusFile.read(of: mount.town).get(from: mount))
    }

    private func show(_ text: String) throws {
        if json { return print(text.trimmedAtEnd) }
        guard let status = StatusFile.decode(text) else {
            throw Failure("this version does not understand the status of \(town).", .couldNotTell)
        }
        print(
            """
            town            \(status.town)
            up              \(status.uptimeSeconds) s, since \(status.mountedAt)
            processes       keeper \(status.keeperPid), worker \(status.workerPid), pulsefs \(status.version)
            signal files    \(status.signalFiles.alive) alive, \(status.signalFiles.expired) expired (ttl \(status.ttlSeconds) s, on expiry \(status.onExpiry))
            runtimes        \(status.runtimes.alive) alive, \(status.runtimes.expired) expired\(status.runtimes.exited.map { ", \($0) exited" } ?? "")
            touches         \(status.documents.touches), \(status.documents.refused) refused, \(status.documents.fromFuture) with a clock ahead
            to write back   \(status.documents.notWrittenDown)
            inodes          \(status.fileSystem.inodes) known, \(status.fileSystem.openFiles) files open
            """)
        showNews(of: status)
        if let mirror = status.mirror { show(mirror) }
    }

    /// Parts that older workers do not report.
    private func showNews(of status: TownStatus) {
        if let covered = status.covered {
            print(
                "scope           signals: \(covered.isEmpty ? "no directory mounted yet" : covered.joined(separator: ", "))"
            )
        }
        for missing in status.uncovered ?? [] { print("not mounted     \(missing.directory): \(missing.reason)") }
        if let activity = status.activity {
            let dropped = activity.dropped > 0 ? ", \(activity.dropped) missed" : ""
            print("activity        \(activity.mode), \(activity.observed) touches\(dropped)")
        }
        if let processes = status.rootProcesses { print("root processes  \(processes) watched") }
        if let events = status.events {
            let lost = events.lost > 0 ? ", \(events.lost) lost to slow ones" : ""
            print("events          \(events.lastSeq), \(events.readers) readers\(lost)")
        }
        if let lag = status.expiryLagSeconds { print("expiry lag      \(Int((lag * 1000).rounded())) ms") }
    }

    private func show(_ mirror: MirrorStatus) {
        let trip = mirror.roundTripMicroseconds.map { "\($0) µs" } ?? "not measured"
        print(
            """
            mirror          \(mirror.server): \(describe(mirror.heartbeats))
            records         as \(mirror.townName): \(describe(mirror.records))
            others          \(mirror.received) changes received, \(mirror.malformed) malformed; \(describe(mirror.subscription))
            queue           \(mirror.queueLength) waiting, \(mirror.sent) sent, \(mirror.coalesced) coalesced, \(mirror.dropped) dropped, round trip \(trip)
            """)
        if let ids = mirror.runtimeIds {
            print("runtime ids     \(ids.entries)\(ids.problem.map { "; the file cannot be used: \($0)" } ?? "")")
        }
    }

    private func describe(_ link: MirrorStatus.Link) -> String {
        "\(link.state.rawValue) since \(link.since)\(link.reason.map { ", \($0)" } ?? "")"
    }
}

extension String {
    /// Without trailing white space.
    fileprivate var trimmedAtEnd: String {
        var trimmed = self[...]
        while trimmed.last?.isWhitespace == true { trimmed.removeLast() }
        return String(trimmed)
    }
}
