import Liveness

/// `.pulse/metrics`: the town's numbers in the text format of Prometheus, version 0.0.4.
///
/// Each family is a line in one of the tables below.
enum PrometheusExposition {
    /// With more runtimes than these, they are not listed one by one.
    private static let mostRuntimes = 1000

    /// What the numbers are taken from, all at one moment.
    private struct Source {
        let status: TownStatus
        let town: Town
        let now: ContinuousClock.Instant
        var counters: Counters { town.counters }

        func mirror(_ samples: (MirrorStatus) -> [Sample]) -> [Sample] { status.mirror.map(samples) ?? [] }

        var runtimes: [(id: RuntimeID, record: Record)] = []
        var isListed = false
    }

    private struct Sample {
        var labels: [(name: String, value: String)] = []
        let value: String

        init(_ value: some BinaryInteger, _ labels: [(name: String, value: String)] = []) {
            self.value = "\(value)"
            self.labels = labels
        }

        init(_ value: Double, _ labels: [(name: String, value: String)] = []) {
            self.value = "\(value)"
            self.labels = labels
        }
    }

    private struct Family {
        enum Kind: String {
            case counter
            case gauge
        }

        let name: String
        let kind: Kind
        let help: String
        let samples: @Sendable (Source) -> [Sample]

        init(
            _ name: String, _ kind: Kind, _ help: String, _ samples: @escaping @Sendable (Source) -> [Sample]
        ) {
            self.name = "pulsefs_" + name
            self.kind = kind
            self.help = help
            self.samples = samples
        }
    }

    static func text(of status: TownStatus, in town: Town) -> [UInt8] {
        var source = Source(status: status, town: town, now: town.now.instant)
        let runtimes = status.runtimes
        source.isListed = runtimes.alive + runtimes.expired + (runtimes.exited ?? 0) <= mostRuntimes
        if source.isListed {
            source.runtimes = town.liveness.runtimes(in: "").compactMap { id in
                town.liveness.record(of: id).map { (id, $0) }
            }
        }
        var text = ""
        for family in families + (status.mirror == nil ? [] : mirrorFamilies) {
            text += "# HELP \(family.name) \(family.help)\n# TYPE \(family.name) \(family.kind.rawValue)\n"
            for sample in family.samples(source) {
                let labels = sample.labels.map { "\($0.name)=\"\(escaped($0.value))\"" }.joined(separator: ",")
                text += "\(family.name)\(labels.isEmpty ? "" : "{\(labels)}") \(sample.value)\n"
            }
        }
        return Array(text.utf8)
    }

    // MARK: The numbers

    private static let families: [Family] = [
        Family("build_info", .gauge, "1, with the version of pulsefs.") {
            [Sample(1, [("version", $0.status.version)])]
        },
        Family("uptime_seconds", .gauge, "Since the mount, counting through suspend.") {
            [Sample($0.status.uptimeSeconds)]
        },
        Family("ttl_seconds", .gauge, "How long a touch proves life unless it says otherwise.") {
            [Sample($0.status.ttlSeconds)]
        },
        Family("runtimes", .gauge, "Runtimes that are known.") { source in
            let tally = source.status.runtimes
            return [
                Sample(tally.alive, state("alive")), Sample(tally.expired, state("expired")),
                Sample(tally.exited ?? 0, state("exited")),
            ]
        },
        Family("signal_files", .gauge, "Signal files that have been touched.") { source in
            let tally = source.status.signalFiles
            return [Sample(tally.alive, state("alive")), Sample(tally.expired, state("expired"))]
        },
        Family("touches_total", .counter, "Touches received, by what they were.") { source in
            Touch.Source.allCases.map { Sample(source.counters.touches(by: $0), [("source", $0.rawValue)]) }
        },
        Family("attributions_total", .counter, "Touches through signal files, by what named the runtime.") { source in
            source.counters.attributed.map { Sample($0.count, [("by", $0.by)]) }
        },
        Family("refused_writes_total", .counter, "Writes to signal files that were no documents.") {
            [Sample($0.counters.refused)]
        },
        Family("future_timestamps_total", .counter, "Documents whose timestamp was ahead of the clock.") {
            [Sample($0.counters.fromFuture)]
        },
        Family("documents_pending", .gauge, "Documents that are not in their real files yet.") {
            [Sample($0.status.documents.notWrittenDown)]
        },
        Family("runtime_expirations_total", .counter, "Runtimes that were silent for their ttl.") {
            [Sample($0.town.liveness.tally.expired)]
        },
        Family("runtime_exits_total", .counter, "Runtimes whose root process was seen to end.") {
            [Sample($0.counters.exits)]
        },
        Family("forgotten_total", .counter, "Runtimes and signal files that were forgotten.") {
            [Sample($0.town.liveness.tally.forgotten)]
        },
        Family("expiry_lag_seconds", .gauge, "How long after its deadline the last runtime was seen to have expired.") {
            [Sample($0.status.expiryLagSeconds ?? 0)]
        },
        Family("activity_observed_total", .counter, "Touches that work on ordinary files has led to.") {
            [Sample($0.counters.touches(by: .activity))]
        },
        Family("activity_dropped_total", .counter, "Activity that was not looked at, as there was too much of it.") {
            [Sample($0.counters.activityDropped)]
        },
        Family("root_processes", .gauge, "Processes that are watched for their end.") {
            [Sample($0.town.processes.rootCount)]
        },
        Family("event_readers", .gauge, "How many have the events open.") { [Sample($0.town.events.readerCount)] },
        Family("events_total", .counter, "Events since the mount.") { [Sample($0.town.liveness.lastEvent)] },
        Family("events_lost_total", .counter, "Events that readers were too slow for, all readers together.") {
            [Sample($0.town.events.lost)]
        },
        Family("inodes", .gauge, "Inodes that the kernel knows.") { [Sample($0.status.fileSystem.inodes)] },
        Family("open_files", .gauge, "Files that are open.") { [Sample($0.status.fileSystem.openFiles)] },
        Family("runtimes_listed", .gauge, "Whether runtimes follow one by one; 0 when they are too many.") {
            [Sample($0.isListed ? 1 : 0)]
        },
        Family("runtime_alive", .gauge, "Whether a runtime is alive.") { source in
            source.runtimes.map { Sample($0.record.isAlive(at: source.now) ? 1 : 0, [("runtime", $0.id.description)]) }
        },
        Family("runtime_age_seconds", .gauge, "Since a runtime was last heard of.") { source in
            source.runtimes.map {
                Sample(max(.zero, source.now - $0.record.touch.at) / .seconds(1), [("runtime", $0.id.description)])
            }
        },
    ]

    /// Only where there is a mirror.
    private static let mirrorFamilies: [Family] = [
        Family("mirror_up", .gauge, "Whether the mirror takes heartbeats, and whole records.") { source in
            source.mirror {
                [
                    Sample($0.heartbeats.state == .up ? 1 : 0, [("family", "heartbeats")]),
                    Sample($0.records.state == .up ? 1 : 0, [("family", "records")]),
                ]
            }
        },
        Family("mirror_queue_length", .gauge, "Changes that wait to be sent.") {
            $0.mirror { [Sample($0.queueLength)] }
        },
        Family("mirror_sent_total", .counter, "Changes that the server has taken.") { $0.mirror { [Sample($0.sent)] } },
        Family("mirror_coalesced_total", .counter, "Changes that later ones took the place of.") {
            $0.mirror { [Sample($0.coalesced)] }
        },
        Family("mirror_dropped_total", .counter, "Changes for which there was no room.") {
            $0.mirror { [Sample($0.dropped)] }
        },
        Family("mirror_received_total", .counter, "Changes received from others.") {
            $0.mirror { [Sample($0.received)] }
        },
        Family("mirror_malformed_total", .counter, "Messages of others that made no sense.") {
            $0.mirror { [Sample($0.malformed)] }
        },
        Family("mirror_round_trip_seconds", .gauge, "Between the last batch and its replies.") {
            $0.mirror { $0.roundTripMicroseconds.map { [Sample(Double($0) / 1e6)] } ?? [] }
        },
    ]

    private static func state(_ state: String) -> [(name: String, value: String)] { [("state", state)] }

    private static func escaped(_ value: String) -> String {
        var escaped = ""
        for character in value.unicodeScalars {
            switch character {
            case "\\": escaped += "\\\\"
            case "\"": escaped += "\\\""
            case "\n": escaped += "\\n"
            default: escaped.unicodeScalars.append(character)
            }
        }
        return escaped
    }
}
