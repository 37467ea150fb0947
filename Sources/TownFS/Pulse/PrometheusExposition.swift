import Liveness

/// `.pulse/metrics`: the town's numbers in the text format of Prometheus, version 0.0.4.
struct PrometheusExposition {
    /// With more runtimes than these, they are not listed one by one.
    private static let maximumListed = 1000

    private var text = ""

    static func text(of status: TownStatus, in town: Town) -> [UInt8] {
        var exposition = Self()
        exposition.addTown(status, town.counters)
        exposition.addLiveness(of: town, status.runtimes)
        if let mirror = status.mirror { exposition.addMirror(mirror) }
        return Array(exposition.text.utf8)
    }

    // MARK: The numbers

    private mutating func addTown(_ status: TownStatus, _ counters: Counters) {
        gauge("build_info", "1, with the version of pulsefs.", by: "version", [(status.version, 1)])
        gauge("uptime_seconds", "Time since the mount, including suspend.", status.uptimeSeconds)
        gauge("ttl_seconds", "Default ttl of a touch.", status.ttlSeconds)
        gauge("runtimes", "Known runtimes.", by: "state", states(status.runtimes))
        gauge("signal_files", "Signal files that were touched.", by: "state", states(status.signalFiles))
        counter(
            "touches_total", "Touches received.", by: "source",
            Touch.Source.allCases.map { ($0.rawValue, counters.touches(by: $0)) })
        counter(
            "attributions_total", "Touches through signal files, by the evidence that named the runtime.", by: "by",
            counters.attributed.map { ($0.by, $0.count) })
        counter("refused_writes_total", "Rejected writes to signal files.", counters.refused)
        counter("future_timestamps_total", "Documents with a timestamp ahead of the clock.", counters.fromFuture)
        gauge("documents_pending", "Documents to be written back.", status.documents.notWrittenDown)
        counter("runtime_exits_total", "Runtimes whose root process ended.", counters.exits)
        counter("activity_observed_total", "Touches by work on ordinary files.", counters.touches(by: .activity))
        counter("activity_dropped_total", "Activity dropped because the queue was full.", counters.activityDropped)
        gauge("root_processes", "Root processes that are watched.", status.rootProcesses ?? 0)
        gauge("expiry_lag_seconds", "Delay of the last expiry after its deadline.", status.expiryLagSeconds ?? 0)
        gauge("event_readers", "Open files of .pulse/events.", status.events?.readers ?? 0)
        counter("events_total", "Events since the mount.", status.events?.lastSeq ?? 0)
        counter("events_lost_total", "Events lost by slow readers.", status.events?.lost ?? 0)
        gauge("inodes", "Inodes that the kernel knows.", status.fileSystem.inodes)
        gauge("open_files", "Open files.", status.fileSystem.openFiles)
    }

    private func states(_ tally: TownStatus.Tally) -> [(String, Int)] {
        [("alive", tally.alive), ("expired", tally.expired)] + (tally.exited.map { [("exited", $0)] } ?? [])
            + (tally.never.map { [("never", $0)] } ?? [])
    }

    private mutating func addLiveness(of town: Town, _ known: TownStatus.Tally) {
        let tally = town.liveness.tally
        counter("runtime_expirations_total", "Runtimes that expired.", tally.expired)
        counter("forgotten_total", "Runtimes and signal files that were forgotten.", tally.forgotten)
        let isListed = known.alive + known.expired + (known.exited ?? 0) + (known.never ?? 0) <= Self.maximumListed
        gauge("runtimes_listed", "1 if runtimes follow one by one, 0 if there are too many.", isListed ? 1 : 0)
        let now = town.now.instant
        let runtimes = (isListed ? town.liveness.runtimes(in: "") : []).compactMap { id in
            town.liveness.record(of: id).map { (id, $0) }
        }
        gauge(
            "runtime_alive", "Whether a runtime is alive.", by: "runtime",
            runtimes.map { ($0.description, $1.isAlive(at: now) ? 1 : 0) })
        gauge(
            "runtime_exited", "Whether a runtime's root process has ended.", by: "runtime",
            runtimes.map { ($0.description, $1.exit == nil ? 0 : 1) })
        func ages(_ name: String, _ help: String, _ moment: (Record) -> ContinuousClock.Instant?) {
            gauge(
                name, help, by: "runtime",
                runtimes.compactMap { id, record in
                    moment(record).map { (id.description, max(.zero, now - $0) / .seconds(1)) }
                })
        }
        ages("runtime_age_seconds", "Time since a runtime's last sign of life.") {
            $0.touch.writer == nil ? $0.touch.at : nil
        }
        ages("runtime_beat_age_seconds", "Time since a runtime's last written touch.") { $0.clocks.beat?.instant }
        ages("runtime_work_age_seconds", "Time since files were changed by an agent or by young processes.") {
            $0.clocks.work?.instant
        }
        ages("runtime_background_work_age_seconds", "Time since files were changed by processes older than the ttl.") {
            $0.clocks.backgroundWork?.instant
        }
        gauge(
            "runtime_cpu_seconds", "Processor time of a root process since its runtime's last beat or work.",
            by: "runtime",
            runtimes.compactMap { id, _ in
                town.processes.processorTime(of: id).map { (id.description, $0 / .seconds(1)) }
            })
        ages("runtime_contested_age_seconds", "Time since two agents were last seen under one id.") {
            $0.rival?.moment.instant
        }
    }

    private mutating func addMirror(_ mirror: MirrorStatus) {
        gauge(
            "mirror_up", "Whether the mirror accepts heartbeats, and whole records.", by: "family",
            [("heartbeats", mirror.heartbeats.state == .up ? 1 : 0), ("records", mirror.records.state == .up ? 1 : 0)])
        gauge("mirror_queue_length", "Changes to be sent.", mirror.queueLength)
        counter("mirror_sent_total", "Changes that the server has accepted.", mirror.sent)
        counter("mirror_coalesced_total", "Changes that later ones have replaced in the queue.", mirror.coalesced)
        counter("mirror_dropped_total", "Changes dropped because the queue was full.", mirror.dropped)
        counter("mirror_received_total", "Changes received from other hosts.", mirror.received)
        counter("mirror_malformed_total", "Malformed messages of other hosts.", mirror.malformed)
        add(
            "mirror_round_trip_seconds", "gauge", "Time between the last batch and its replies.", by: nil,
            mirror.roundTripMicroseconds.map { [("", Double($0) / 1e6)] } ?? [])
    }

    // MARK: The format

    private mutating func gauge(_ name: String, _ help: String, _ value: some Numeric) {
        add(name, "gauge", help, by: nil, [("", value)])
    }

    private mutating func gauge(_ name: String, _ help: String, by label: String, _ samples: [(String, some Numeric)]) {
        add(name, "gauge", help, by: label, samples)
    }

    private mutating func counter(_ name: String, _ help: String, _ value: some Numeric) {
        add(name, "counter", help, by: nil, [("", value)])
    }

    private mutating func counter(
        _ name: String, _ help: String, by label: String, _ samples: [(String, some Numeric)]
    ) {
        add(name, "counter", help, by: label, samples)
    }

    /// - Parameter samples: Values by that of the label, if there is one.
    private mutating func add(
        _ name: String, _ kind: String, _ help: String, by label: String?, _ samples: [(String, some Numeric)]
    ) {
        text += "# HELP pulsefs_\(name) \(help)\n# TYPE pulsefs_\(name) \(kind)\n"
        for (labelValue, value) in samples {
            let labels = label.map { "{\($0)=\"\(Self.escaped(labelValue))\"}" } ?? ""
            text += "pulsefs_\(name)\(labels) \(value)\n"
        }
    }

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
