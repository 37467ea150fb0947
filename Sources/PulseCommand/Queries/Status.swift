import ArgumentParser
import Daemon
import Liveness
import SystemPackage
import TownFS

struct Status: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show the state of a town.",
        discussion: "Programs read TOWN/.pulse/status.json.")

    @Argument(help: .town, completion: .directory)
    var town: String

    @Flag(help: "Print .pulse/status.json unchanged.")
    var json = false

    func run() throws {
        let mount = try TownPath(town).requireMount()
        let text = try TownAnswer.ask { () throws(Errno) in try mount.statusText() }.get(from: mount)
        if json { return print(text, terminator: "") }
        guard let status: TownStatus = JSONText.decode(text) else {
            throw Failure("this version does not understand the status of \(town).", .couldNotTell)
        }
        show(status)
        if let mirror = status.mirror { show(mirror) }
    }

    /// Prints nothing for a part that an older worker does not report.
    private func line(_ title: String, _ words: String?) {
        if let words { print(TerminalText.fitted(title, to: 15), words) }
    }

    private func show(_ status: TownStatus) {
        let (documents, files, runtimes) = (status.documents, status.signalFiles, status.runtimes)
        let expiry = "ttl \(status.ttlSeconds) s, on expiry \(status.onExpiry)"
        let exited = runtimes.exited.map { ", \($0) exited" } ?? ""
        line("town", status.town)
        line("up", "\(status.uptimeSeconds) s, since \(status.mountedAt)")
        line("processes", "keeper \(status.keeperPid), worker \(status.workerPid), pulsefs \(status.version)")
        line(
            "takeovers",
            status.takeovers.map { $0 == 0 ? "none" : "\($0), the last one at \(status.servingSince ?? "?")" })
        line("signal files", "\(files.alive) alive, \(files.expired) expired (\(expiry))")
        let never = runtimes.never.map { $0 > 0 ? ", \($0) never" : "" } ?? ""
        line("runtimes", "\(runtimes.alive) alive, \(runtimes.expired) expired\(exited)\(never)")
        line(
            "touches", "\(documents.touches), \(documents.refused) refused, \(documents.fromFuture) with a clock ahead")
        line("to write back", "\(documents.notWrittenDown)")
        line("inodes", "\(status.fileSystem.inodes) known, \(status.fileSystem.openFiles) files open")
        if let covered = status.covered?.joined(separator: ", ") {
            line("scope", "signals: \(covered.isEmpty ? "no directory mounted yet" : covered)")
        }
        for missing in status.uncovered ?? [] { line("not mounted", "\(missing.directory): \(missing.reason)") }
        if let activity = status.activity {
            let dropped = activity.dropped > 0 ? ", \(activity.dropped) missed" : ""
            line("activity", "\(activity.mode), \(activity.observed) touches\(dropped)")
        }
        line("root processes", status.rootProcesses.map { "\($0) watched" })
        if let events = status.events {
            let lost = events.lost > 0 ? ", \(events.lost) lost to slow ones" : ""
            line("events", "\(events.lastSeq), \(events.readers) readers\(lost)")
        }
        line("expiry lag", status.expiryLagSeconds.map { "\(Int(($0 * 1000).rounded())) ms" })
    }

    private func show(_ mirror: MirrorStatus) {
        let trip = mirror.roundTripMicroseconds.map { "\($0) µs" } ?? "not measured"
        let changes = "\(mirror.received) changes received, \(mirror.malformed) malformed"
        let dropped = "\(mirror.coalesced) coalesced, \(mirror.dropped) dropped"
        line("mirror", "\(mirror.server): \(mirror.heartbeats.words)")
        line("records", "as \(mirror.townName): \(mirror.records.words)")
        line("others", "\(changes); \(mirror.subscription.words)")
        line("queue", "\(mirror.queueLength) waiting, \(mirror.sent) sent, \(dropped), round trip \(trip)")
        if let ids = mirror.runtimeIds {
            line("runtime ids", "\(ids.entries)\(ids.problem.map { "; the file cannot be used: \($0)" } ?? "")")
        }
    }
}

extension MirrorStatus.Link {
    /// For example `down since 2026-11-21T22:43:51Z, connection refused`.
    var words: String { "\(state.rawValue) since \(since)\(reason.map { ", \($0)" } ?? "")" }
}
