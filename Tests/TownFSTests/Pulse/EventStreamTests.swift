import Fuse
import Glibc
import Liveness
import SystemPackage
import TestSupport
import Testing

@testable import TownFS

@Suite(.timeLimit(.minutes(5))) struct EventStreamTests {
    private func touch(_ id: String, in town: TestTown, ttl: Duration = .seconds(90)) throws {
        try town.town.liveness.touch(RuntimeID(id), ttl: ttl)
    }

    /// The sequence numbers of all lines.
    ///
    /// Fails for a partial line.
    private func numbers(_ text: String) throws -> [Int] {
        #expect(text.hasSuffix("\n"))
        return try text.split(separator: "\n").map { line in
            #expect(line.hasSuffix("}"))
            let start = try #require(line.firstRange(of: #"{"seq":"#)?.upperBound)
            return try #require(Int(line[start...].prefix { $0.isNumber }))
        }
    }

    @Test func streamBeginsWithEventsAfterTheOpen() throws {
        try withTown { town in
            try touch("before", in: town)
            let handle = try town.open(".pulse/events")
            #expect(throws: Errno.resourceTemporarilyUnavailable) { try town.read(handle) }
            #expect(try town.poll(handle, pollHandle: nil) == 0)
            try touch("mayor", in: town)
            #expect(try town.poll(handle, pollHandle: nil) == UInt32(POLLIN | POLLRDNORM))
            let text = try town.read(handle)
            #expect(try numbers(text) == [2])
            #expect(text.contains(#""event":"touched","runtime":"mayor","source":"command"}"#))
            #expect(throws: Errno.resourceTemporarilyUnavailable) { try town.read(handle) }
            #expect(town.town.events.readerCount == 1)
            town.release(handle)
            #expect(town.town.events.readerCount == 0)
        }
    }

    @Test func numberIsWhereReadingBegins() throws {
        try withTown { town in
            for number in 1...5 { try touch("r\(number)", in: town) }
            #expect(try numbers(town.read(".pulse/events@2")) == [2, 3, 4, 5])
            let handle = try town.open(".pulse/events@6")
            try touch("r6", in: town)
            #expect(try numbers(town.read(handle)) == [6])
            town.release(handle)
            for name in [
                "events@0", "events@8", "events@", "events@02", "events@+2", "events@-1", "events@2x",
                "events@99999999999999999999",
            ] {
                #expect(try !town.exists(".pulse/\(name)"), "\(name)")
            }
            #expect(throws: Errno.permissionDenied) { try town.open(".pulse/events", O_WRONLY) }
        }
    }

    @Test func readReturnsWholeLinesIfOneFits() throws {
        try withTown { town in
            for number in 1...3 { try touch("r\(number)", in: town) }
            let whole = try town.read(".pulse/events@1")
            let line = whole.utf8.count / 3
            let handle = try town.open(".pulse/events@1")
            let first = try town.read(handle, room: line * 2 + 5)
            #expect(try numbers(first) == [1, 2])
            // The kernel would go on reading after a full reply.
            #expect(try numbers(town.read(town.open(".pulse/events@1"), room: line * 2)) == [1])
            // Byte by byte, the result is the same.
            var rest = ""
            for _ in 0..<line { rest += try town.read(handle, room: 1) }
            #expect(first + rest == whole)
            #expect(throws: Errno.resourceTemporarilyUnavailable) { try town.read(handle) }
            town.release(handle)
        }
    }

    @Test func slowReaderGetsALostEvent() throws {
        try withTown { town in
            let handle = try town.open(".pulse/events")
            for number in 0..<(EventLog.defaultCapacity + 100) { try touch("r\(number % 10)", in: town) }
            var text = try town.read(handle, room: 1 << 20)
            let lost = text.prefix { $0 != "\n" }
            #expect(lost.hasSuffix(#""event":"lost","from":1,"to":100}"#))
            text.removeFirst(lost.count + 1)
            while let more = try? town.read(handle, room: 1 << 20) { text += more }
            #expect(try numbers(text) == Array(101...(EventLog.defaultCapacity + 100)))
            #expect(town.town.events.lost == 100)
            town.release(handle)
        }
    }

    @Test func readersAreBounded() throws {
        try withTown { town in
            let handles = try (0..<EventStream.maximumReaders).map { _ in try town.open(".pulse/events") }
            #expect(throws: Errno.tooManyOpenFilesInSystem) { try town.open(".pulse/events") }
            town.release(handles[0])
            let last = try town.open(".pulse/events")
            for handle in handles.dropFirst() + [last] { town.release(handle) }
            #expect(town.town.events.readerCount == 0)
        }
    }

    @Test func expiryAloneIsAnEvent() throws {
        try withTown { town in
            let handle = try town.open(".pulse/events")
            try touch("mayor", in: town, ttl: .seconds(5))
            _ = try town.read(handle)
            town.advance(by: .seconds(5))
            // The thread sleeps by the real clock; a shorter ttl wakes it.
            try touch("nux", in: town, ttl: .nanoseconds(1))
            let isSaid = eventually {
                town.advance(by: .nanoseconds(1))
                return town.town.liveness.tally.expired == 2
            }
            #expect(isSaid)
            let text = try town.read(handle)
            #expect(text.contains(#""event":"expired","runtime":"mayor"}"#))
            town.release(handle)
        }
    }

    @Test func idsOfAnyTextAreQuoted() throws {
        try withTown { town in
            for id in ["a \"b\" \\", "e\u{301}", "\u{E9}", "<&>\u{301}"] { try touch(id, in: town) }
            let lines = try town.read(".pulse/events@1")
            #expect(lines.contains(#""runtime":"a \"b\" \\","#))
            #expect(Array(lines.utf8).firstRange(of: Array("\"runtime\":\"e\u{301}\",".utf8)) != nil)
            #expect(lines.contains(#""runtime":"\u003c\u0026\u003e"# + "\u{301}\","))
            let metrics = Array(try town.read(".pulse/metrics").utf8)
            for label in [#""a \"b\" \\""#, "\"e\u{301}\"", "\"\u{E9}\"", "\"<&>\u{301}\""] {
                #expect(
                    metrics.firstRange(of: Array("pulsefs_runtime_alive{runtime=\(label)} 1\n".utf8)) != nil, "\(label)"
                )
            }
            let report = try town.read(".pulse/alive/a \"b\" \\")
            #expect(report.contains(#""id" : "a \"b\" \\""#))
        }
    }

    @Test func metricsListAllValues() throws {
        try withTown { town in
            try touch("gastown/polecats/nux", in: town)
            try town.write(document("gt", at: town.now), to: ".runtime/keepalive.json")
            let text = try town.read(".pulse/metrics")
            for line in [
                #"pulsefs_build_info{version="test"} 1"#, #"pulsefs_signal_files{state="alive"} 1"#,
                #"pulsefs_touches_total{source="written"} 1"#,
                #"pulsefs_runtime_alive{runtime="gastown/polecats/nux"} 1"#,
                "pulsefs_runtimes_listed 1", "# TYPE pulsefs_events_total counter", "pulsefs_event_readers 0",
            ] {
                #expect(text.contains(line + "\n"), "\(line)")
            }
            #expect(!text.contains("mirror"))
            for number in 0..<1000 { try touch("r\(number)", in: town) }
            let short = try town.read(".pulse/metrics")
            #expect(short.contains("pulsefs_runtimes_listed 0\n") && !short.contains("runtime=\""))
        }
    }
}
