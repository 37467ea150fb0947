import CLinux
import Fuse
import Glibc
import Linux
import Liveness
import SystemPackage
import TestSupport
import Testing

@testable import TownFS

/// A worker that was killed, and the one that takes over.
@Suite(.timeLimit(.minutes(5))) struct SuccessorTests {
    private let activity = "daemon/activity.json"
    private let keepalive = ".runtime/keepalive.json"
    private static let nobody = Request(user: 65_534, group: 65_534, thread: gettid())

    private func id(_ text: String) throws -> RuntimeID { try RuntimeID(text) }

    /// What tools see of signal files and in `.pulse`, by path.
    private func answers(of town: TestTown, files: [String]) throws -> [String: String] {
        var answers: [String: String] = [:]
        for path in files {
            guard try town.exists(path) else {
                answers[path] = "absent"
                continue
            }
            let status = try town.stat(path)
            answers["stat \(path)"] =
                "\(status.st_ino) \(status.st_mode) \(status.st_uid) \(status.st_gid) \(status.st_nlink) "
                + "\(status.st_size) \(status.st_blocks) \(WallTime(status.st_mtim)) \(WallTime(status.st_ctim)) "
                + "\(WallTime(status.st_atim))"
            answers[path] = try town.read(path)
        }
        let liveness = town.town.liveness
        for runtime in liveness.runtimes(in: "") {
            for (reader, request) in [("me", Request.me), ("nobody", Self.nobody)] {
                answers["\(runtime) as \(reader)"] = try town.read(".pulse/runtimes/\(runtime).json", by: request)
            }
        }
        answers["alive"] = try town.names(".pulse/alive").sorted().joined(separator: " ")
        answers["events"] = try town.read(".pulse/events@1")
        let hidden = ["inode", "open_files", "uptime", "mounted", "start"]
        answers["metrics"] = try town.read(".pulse/metrics").split(separator: "\n")
            .filter { line in !hidden.contains { line.contains($0) } }.joined(separator: "\n")
        answers["tally"] = "\(liveness.tally) \(liveness.counts())"
        return answers
    }

    private func expectSame(_ one: [String: String], _ other: [String: String]) {
        for key in Set(one.keys).union(other.keys) { #expect(one[key] == other[key], "\(key)") }
    }

    @Test(arguments: [Town.Expiry.keep, .absent]) func givesTheSameAnswers(_ expiry: Town.Expiry) throws {
        try withTown(expiry: expiry, writebackDelay: .seconds(3600)) { town in
            let heartbeats = (0..<5).map { ".runtime/heartbeats/gt-\($0).json" }
            let files = [activity, keepalive, "deacon/heartbeat.json", "deacon/.deacon-heartbeat"] + heartbeats
            for path in files { try town.write(document(path, at: town.now), to: path, mode: 0o640) }
            try town.write("plain", to: "\(keepalive)")
            town.writeback()
            town.advance(by: .milliseconds(1234))
            // Dirty again, removed, with another mode, and rejected.
            try town.write(document("later", at: town.now), to: activity)
            try town.unlink(heartbeats[1])
            _ = try town.setattr(heartbeats[2], { $0.mode = 0o604 })
            #expect(throws: Errno.invalidArgument) { try town.write("[]", to: heartbeats[3]) }
            let liveness = town.town.liveness
            try liveness.touch(id("short"), ttl: .seconds(5))
            try liveness.touch(id("long/lived"), ttl: .seconds(900))
            try liveness.touch(id("exiting"), ttl: .seconds(900))
            try liveness.touch(id("gone"), ttl: .seconds(900))
            try town.mkdir(".pulse/alive/empty")
            liveness.forget(try id("gone"))
            town.advance(by: .seconds(6))
            _ = liveness.expire(limit: 100)
            let process = Touch.Process(pid: 4711, program: "claude")
            liveness.exit(
                try id("exiting"), Record.Exit(of: process, noticedAt: town.now, at: town.town.now.instant))
            town.town.counters.countTouch(.activity)

            let before = try answers(of: town, files: files)
            let events = liveness.lastEvent
            let successor = try town.successor()
            defer { _ = successor.town.close() }
            expectSame(before, try answers(of: successor, files: files))
            for runtime in liveness.runtimes(in: "") {
                #expect(successor.town.liveness.record(of: runtime) == liveness.record(of: runtime))
            }
            for path in files {
                let path = Array(path.utf8)
                #expect(successor.town.liveness.record(ofSignal: path) == liveness.record(ofSignal: path))
            }
            #expect(successor.town.liveness.lastEvent == events)
            #expect(successor.town.liveness.record(of: try id("gone")) == nil)

            // Both expire alike.
            town.advance(by: .seconds(85))
            for liveness in [liveness, successor.town.liveness] {
                while liveness.expire(limit: 1) != nil {
                    if let next = liveness.expire(limit: 1), next > town.town.now.instant { break }
                }
            }
            expectSame(try answers(of: town, files: files), try answers(of: successor, files: files))
        }
    }

    @Test func writesBackWhatWasDirtyAndNothingElse() throws {
        try withTown(writebackDelay: .seconds(3600)) { town in
            try town.write(document("clean", at: town.now), to: keepalive)
            town.writeback()
            let text = document("dirty", at: town.now)
            try town.write(text, to: activity)
            try town.writeBacking("half", to: "daemon/.pulsefs-0123456789abcdef")
            let successor = try town.successor()
            #expect(successor.town.writeback.dirtyCount == 1)
            #expect(try eventually { try successor.backingNames("daemon") == [] })
            // The backing file of a clean one may be changed past pulsefs: it is not written again.
            try town.writeBacking("theirs", to: keepalive)
            #expect(successor.town.close() == 0)
            #expect(try town.readBacking(activity) == text)
            #expect(try town.readBacking(keepalive) == "theirs")
            // Everything is clean now, for the next one and for the keeper.
            let next = try successor.successor()
            defer { _ = next.town.close() }
            #expect(next.town.writeback.dirtyCount == 0)
            #expect(try next.read(activity) == text)
        }
    }

    @Test func eventsGoOnWhereTheyWere() throws {
        try withTown(writebackDelay: .seconds(3600)) { town in
            for number in 0..<EventLog.defaultCapacity + 10 {
                try town.town.liveness.touch(id("r\(number % 7)"), ttl: .seconds(90))
            }
            let successor = try town.successor()
            defer { _ = successor.town.close() }
            let (old, new) = (town.town.liveness, successor.town.liveness)
            #expect(new.lastEvent == old.lastEvent)
            for position in [1, 11, 12, 9000, old.lastEvent, old.lastEvent + 1] {
                let expected = old.events(from: position, limit: 3)
                let found = new.events(from: position, limit: 3)
                #expect(found.lost == expected.lost)
                #expect(found.first == expected.first)
                #expect(found.events == expected.events)
            }
            try new.touch(id("next"), ttl: .seconds(90))
            #expect(new.events(from: old.lastEvent + 1, limit: 3).events.map(\.runtime) == [try id("next")])
        }
    }

    /// An expiry is reported once, also if the deadline passes while no worker runs.
    @Test func reportsExpiriesThatTheOtherHasNot() throws {
        try withTown(writebackDelay: .seconds(3600)) { town in
            try town.town.liveness.touch(id("reported"), ttl: .seconds(5))
            try town.town.liveness.touch(id("missed"), ttl: .seconds(10))
            town.advance(by: .seconds(6))
            _ = town.town.liveness.expire(limit: 100)
            town.advance(by: .seconds(6))
            let successor = try town.successor()
            defer { _ = successor.town.close() }
            #expect(eventually { successor.town.liveness.lastEvent == 4 })
            let events = successor.town.liveness.events(from: 3, limit: 10).events
            #expect(events.map(\.kind) == [.expired, .expired])
            #expect(events.map(\.runtime) == [try id("reported"), try id("missed")])
            #expect(successor.town.liveness.tally.expired == 2)
        }
    }

    /// No worker ran for longer than the ttl.
    @Test func stallBeforeTheSuccessorIsNoSilence() throws {
        try withTown(writebackDelay: .seconds(3600), stallLimit: .seconds(5)) { town in
            let mayor = try id("mayor")
            try town.town.liveness.touch(mayor, ttl: .seconds(90))
            town.town.expiry.close()
            town.advance(by: .seconds(600))
            let successor = try town.successor()
            defer { _ = successor.town.close() }
            let liveness = successor.town.liveness
            #expect(liveness.isAlive(mayor))
            #expect(liveness.record(of: mayor)?.deadline == town.town.now.instant + .seconds(90))
            let events = liveness.events(from: 1, limit: 10).events
            #expect(events.map(\.kind) == [.touched, .resumed])
            #expect(events.last?.reason == "600.000")
        }
    }

    /// Also of one that another touch has followed, whose writer was answered.
    @Test func knowsWhichRequestsHaveTouched() throws {
        try withTown(writebackDelay: .seconds(3600)) { town in
            func request(_ number: UInt64) -> Request {
                Request(user: getuid(), group: getgid(), thread: gettid(), unique: number)
            }
            try town.write(document("1", at: town.now), to: activity, by: request(76))
            try town.write(document("1", at: town.now), to: activity, by: request(78))
            try town.write(document("2", at: town.now), to: keepalive, by: request(80))
            let successor = try town.successor()
            defer { _ = successor.town.close() }
            let file = try #require(
                successor.signals.known(NodeName(Array("activity.json".utf8)), in: Array("daemon".utf8)))
            for (number, hasTouched) in [(76, true), (78, true), (80, false), (0, false)] as [(UInt64, Bool)] {
                #expect(file.wasTouched(by: request(number)) == hasTouched)
            }
            try successor.write(document("3", at: town.now), to: activity, by: request(82))
            #expect(file.wasTouched(by: request(78)))
            #expect(file.wasTouched(by: request(82)))
        }
    }

    @Test(arguments: [true, false]) func completesAnInterruptedUnlink(_ isClean: Bool) throws {
        try withTown(writebackDelay: .seconds(3600)) { town in
            let path = ".runtime/heartbeats/gt-nux.json"
            try town.write(document("gt", at: town.now), to: path)
            if isClean { town.writeback() }
            let runtime = try #require(town.town.liveness.runtimes(in: "").first)
            #expect(town.journal.append(.unlinked, at: Array(path.utf8)))
            let successor = try town.successor()
            defer { _ = successor.town.close() }
            #expect(try !successor.exists(path))
            #expect(try town.readBacking(path) == nil)
            #expect(successor.town.liveness.record(of: runtime) == nil)
            #expect(successor.town.liveness.tally.forgotten == 2)
            try successor.write(document("new", at: town.now), to: path)
            #expect(try successor.successor().read(path) == document("new", at: town.now))
        }
    }

    /// A worker was killed when it had renamed, and before it replied.
    ///
    /// - Parameter flags: Of renameat2(2).
    @Test(arguments: [
        ("daemon/new.tmp", "daemon/activity.json", 0), (".runtime/heartbeats/gt-nux.json", "daemon/activity.json", 0),
        (".runtime/heartbeats/gt-nux.json", ".runtime/heartbeats/gt-other.json", RENAME_NOREPLACE),
        ("daemon/activity.json", "daemon/kept", 0), ("daemon/activity.json", "daemon/kept", RENAME_NOREPLACE),
        ("daemon/new.tmp", "daemon/other.tmp", RENAME_NOREPLACE), ("directory", "deacon/heartbeat.json", 0),
    ]) func renameThatHasHappenedSucceedsWhenRepeated(source: String, target: String, flags: CInt) throws {
        try withTown(writebackDelay: .seconds(3600)) { town in
            try town.write(document("1", at: town.now), to: activity)
            try town.write(document("2", at: town.now), to: ".runtime/heartbeats/gt-nux.json")
            try town.write(document("3", at: town.now), to: "daemon/new.tmp")
            try town.mkdir("directory")
            func request(isRepeated: Bool) -> Request {
                Request(user: getuid(), group: getgid(), thread: gettid(), unique: 78, isRepeated: isRepeated)
            }
            try town.rename(source, to: target, flags: UInt32(flags), by: request(isRepeated: false))
            let isDirectory = try town.stat(target).isDirectory
            let content = isDirectory ? "" : try town.read(target)
            let touches = town.town.counters.touches
            let successor = try town.successor()
            defer { _ = successor.town.close() }
            try successor.rename(source, to: target, flags: UInt32(flags), by: request(isRepeated: true))
            #expect(try !successor.exists(source))
            #expect(try successor.stat(target).isDirectory == isDirectory)
            if !isDirectory { #expect(try successor.read(target) == content) }
            #expect(successor.town.counters.touches == touches)
            // It is no licence for others.
            #expect(throws: Errno.noSuchFileOrDirectory) { try successor.rename(source, to: target, by: .me) }
        }
    }

    @Test func forgottenRuntimeDoesNotComeBackFromItsFile() throws {
        try withTown(writebackDelay: .seconds(3600)) { town in
            try town.write(document("gt", at: town.now), to: ".runtime/heartbeats/gt-nux.json")
            town.writeback()
            let runtime = try #require(town.town.liveness.runtimes(in: "").first)
            try town.unlink(".pulse/alive/\(runtime)")
            let successor = try town.successor()
            defer { _ = successor.town.close() }
            #expect(successor.town.liveness.runtimes(in: "") == [])
        }
    }

    // MARK: Root processes

    @Test func watchesTheRootProcesses() throws {
        try withTown(writebackDelay: .seconds(3600)) { town in
            let child = try ChildProgram("echo; read x", environment: ["GT_ROLE": "mayor"])
            let process = RootProcesses.Process(
                pid: child.pid, startTime: try #require(ProcessFiles(number: child.pid).stat()).image.startTime,
                program: "sh")
            let mayor = try id("mayor")
            try town.town.liveness.touch(mayor, ttl: .seconds(90))
            town.journal.saveRoot(process, of: mayor, isNamed: false)
            let successor = try town.successor()
            defer { _ = successor.town.close() }
            #expect(successor.town.processes.root(of: mayor) == child.pid)
            child.end()
            #expect(eventually { successor.town.liveness.record(of: mayor)?.exit?.process.pid == child.pid })
            #expect(eventually { successor.town.journal.roots.isEmpty })
        }
    }

    @Test(arguments: [true, false]) func noticesAnExitWhileNoWorkerRan(_ isNumberInUse: Bool) throws {
        try withTown(writebackDelay: .seconds(3600)) { town in
            let mayor = try id("mayor")
            try town.town.liveness.touch(mayor, ttl: .seconds(90))
            let child = try ChildProgram("echo; read x")
            let stat = try #require(ProcessFiles(number: child.pid).stat())
            let startTime = isNumberInUse ? stat.image.startTime - 1 : stat.image.startTime
            if !isNumberInUse { child.end() }
            town.journal.saveRoot(
                .init(pid: child.pid, startTime: startTime, program: "claude"), of: mayor, isNamed: false)
            let successor = try town.successor()
            defer { _ = successor.town.close() }
            #expect(eventually { successor.town.liveness.record(of: mayor)?.exit?.process.program == "claude" })
            #expect(eventually { successor.town.counters.exits == 1 })
            let last = successor.town.liveness.lastEvent
            #expect(successor.town.liveness.events(from: last, limit: 1).events.first?.kind == .exited)
        }
    }

    // MARK: Many

    @Test func restoresManyRecords() throws {
        try withTown(writebackDelay: .seconds(3600)) { town in
            let liveness = town.town.liveness
            for number in 0..<5000 {
                liveness.touch(
                    Touch(
                        signal: number % 5 == 0 ? Array("file \(number)".utf8) : nil,
                        runtime: try id("rig\(number % 50)/polecats/p\(number)"), receivedAt: town.now,
                        at: town.town.now.instant, ttl: .seconds(90 + number),
                        document: number % 3 == 0 ? Document(Array(document("x", at: town.now).utf8)) : nil,
                        source: .written, evidence: number % 2 == 0 ? .path : .environment(.role),
                        process: Touch.Process(pid: Int32(number), program: "p\(number)"), request: UInt64(number)))
                if number % 10 == 3 { liveness.forget(try id("rig\((number - 3) % 50)/polecats/p\(number - 3)")) }
            }
            let successor = try town.successor()
            defer { _ = successor.town.close() }
            let restored = successor.town.liveness
            #expect(restored.runtimes(in: "") == liveness.runtimes(in: ""))
            #expect(restored.runtimes(in: "").count == 4500)
            for runtime in liveness.runtimes(in: "") {
                #expect(restored.record(of: runtime) == liveness.record(of: runtime))
            }
            #expect(restored.counts() == liveness.counts())
        }
    }
}
