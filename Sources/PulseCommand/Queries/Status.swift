import ArgumentParser
import Glibc
import Liveness
import TownFS

/// `pulsefs status`.
struct Status: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Say how a town is doing.",
        discussion: "The same is in TOWN/.pulse/status.json.")

    @Argument(help: .town, completion: .directory)
    var town: String

    @Flag(help: "Print .pulse/status.json as it is.")
    var json = false

    func run() throws {
        let place = try TownPath(town)
        guard let mount = place.mount else { throw Failure("\(place.path) is not mounted.", .notMounted) }
        try show(StatusFile.read(of: mount.town).get(from: mount))
    }

    private func show(_ text: String) throws {
        if json { return print(text.trimmedAtEnd) }
        guard let status = StatusFile.decode(text) else {
            throw Failure("\(town) says something that this version does not understand.", .couldNotTell)
        }
        print(
            """
            town            \(status.town)
            up              \(status.uptimeSeconds) s, since \(status.mountedAt)
            processes       keeper \(status.keeperPid), worker \(status.workerPid), pulsefs \(status.version)
            signal files    \(status.signalFiles.alive) alive, \(status.signalFiles.expired) expired (ttl \(status.ttlSeconds) s, on expiry \(status.onExpiry))
            runtimes        \(status.runtimes.alive) alive, \(status.runtimes.expired) expired\(status.runtimes.exited.map { ", \($0) exited" } ?? "")
            touches         \(status.documents.touches), \(status.documents.refused) refused, \(status.documents.fromFuture) with a clock ahead
            to write down   \(status.documents.notWrittenDown)
            inodes          \(status.fileSystem.inodes) known, \(status.fileSystem.openFiles) files open
            """)
        showNews(of: status)
        if let mirror = status.mirror { show(mirror) }
    }

    /// What not every worker that may be mounted tells.
    private func showNews(of status: TownStatus) {
        if let covered = status.covered {
            print(
                "scope           signals: \(covered.isEmpty ? "nothing to mount over yet" : covered.joined(separator: ", "))"
            )
        }
        for missing in status.uncovered ?? [] { print("not covered     \(missing.directory): \(missing.reason)") }
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
    /// Without the spaces and line feeds at its end.
    fileprivate var trimmedAtEnd: String {
        var trimmed = self[...]
        while trimmed.last?.isWhitespace == true { trimmed.removeLast() }
        return String(trimmed)
    }
}
