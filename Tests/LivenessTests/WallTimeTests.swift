import Liveness
import Testing

@Suite(.timeLimit(.minutes(5))) struct WallTimeTests {
    @Test(arguments: [
        ("1970-01-01T00:00:00Z", 0, 0),
        ("2026-08-01T12:34:56Z", 1_785_587_696, 0),
        ("2026-08-01T12:34:56.5Z", 1_785_587_696, 500_000_000),
        ("2026-08-01T12:34:56.123456789Z", 1_785_587_696, 123_456_789),
        ("2026-08-01T14:34:56.000000001+02:00", 1_785_587_696, 1),
        ("2026-08-01T07:04:56-05:30", 1_785_587_696, 0),
        ("2026-08-01T12:34:56-00:00", 1_785_587_696, 0),
        ("1969-12-31T23:59:59.25Z", -1, 250_000_000),
        ("2000-02-29T00:00:00Z", 951_782_400, 0),
        ("2024-02-29T00:00:00Z", 1_709_164_800, 0),
        ("0001-01-01T00:00:00Z", -62_135_596_800, 0),
        ("0000-01-01T00:00:00+24:00", -62_167_305_600, 0),
        ("9999-12-31T23:59:59Z", 253_402_300_799, 0),
    ])
    func timestampIsRead(_ text: String, _ seconds: Int64, _ nanoseconds: Int32) {
        #expect(WallTime(rfc3339: text.utf8) == WallTime(seconds: seconds, nanoseconds: nanoseconds))
    }

    /// Forbidden by the RFC, accepted by Go.
    @Test(arguments: [
        ("2026-08-01T3:04:05Z", "2026-08-01T03:04:05Z"),
        ("2026-08-01T03:04:05,25Z", "2026-08-01T03:04:05.25Z"),
        ("2026-08-01T03:04:05.1234567899Z", "2026-08-01T03:04:05.123456789Z"),
        ("2026-08-02T00:00:00+24:00", "2026-08-01T00:00:00Z"),
        ("2026-08-01T01:00:00+00:60", "2026-08-01T00:00:00Z"),
    ])
    func extensionsOfGoAreAccepted(_ text: String, _ meaning: String) {
        #expect(WallTime(rfc3339: text.utf8)?.rfc3339 == meaning)
    }

    @Test(arguments: [
        "", "Z", "2026-08-01", "2026-08-01T12:34:56", "2026-08-01T12:34Z", "2026-08-01 12:34:56Z",
        "2026-08-01t12:34:56Z", "2026-08-01T12:34:56z", "2026-08-01T12:34:60Z", "2026-08-01T12:60:00Z",
        "2026-08-01T24:00:00Z", "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-08-00T00:00:00Z",
        "2026-06-31T00:00:00Z", "2026-02-29T00:00:00Z", "1900-02-29T00:00:00Z", "26-08-01T12:34:56Z",
        "12026-08-01T12:34:56Z", "2026-8-01T12:34:56Z", "2026-08-1T12:34:56Z", "2026-08-01T12:4:56Z",
        "2026-08-01T12:34:6Z", "2026-08-01T012:34:56Z", "2026-08-01T12:34:56.Z", "2026-08-01T12:34:56+0200",
        "2026-08-01T12:34:56+02", "2026-08-01T12:34:56+2:00", "2026-08-01T12:34:56 02:00", "2026-08-01T12:34:56+25:00",
        "2026-08-01T12:34:56+00:61", "2026-08-01T12:34:56ZZ", "2026-08-01T12:34:56Z ", " 2026-08-01T12:34:56Z",
        "2026-08-01T12:34:56 UTC", "+026-08-01T12:34:56Z", "2026-08-01T12:34:56.5", "1785587696",
        "２026-08-01T12:34:56Z",
    ])
    func invalidGoTimestampIsRefused(_ text: String) {
        #expect(WallTime(rfc3339: text.utf8) == nil)
    }

    @Test(arguments: [
        (0, 0, "1970-01-01T00:00:00Z"),
        (1_785_587_696, 123_456_789, "2026-08-01T12:34:56.123456789Z"),
        (1_785_587_696, 120_000_000, "2026-08-01T12:34:56.12Z"),
        (1_785_587_696, 10, "2026-08-01T12:34:56.00000001Z"),
        (-1, 999_999_999, "1969-12-31T23:59:59.999999999Z"),
        (-62_135_596_800, 0, "0001-01-01T00:00:00Z"),
        (-62_167_219_201, 0, "-0001-12-31T23:59:59Z"),
        (253_402_300_800, 0, "10000-01-01T00:00:00Z"),
    ])
    func timestampIsWrittenAsGoDoes(_ seconds: Int64, _ nanoseconds: Int32, _ text: String) {
        #expect(WallTime(seconds: seconds, nanoseconds: nanoseconds).rfc3339 == text)
    }

    @Test func daysOfEightCenturiesSurviveWritingAndReading() {
        for day in stride(from: Int64(-150_000), to: 150_000, by: 13) {
            let time = WallTime(seconds: day * 86_400 + 43_200)
            #expect(WallTime(rfc3339: time.rfc3339.utf8) == time)
        }
    }

    @Test(arguments: [Int64.min, .min + 1, -1, 0, .max - 1, .max])
    func noSecondsTrap(_ seconds: Int64) {
        let time = WallTime(seconds: seconds, nanoseconds: 999_999_999)
        #expect(time.rfc3339.hasSuffix("Z"))
        #expect(time - WallTime(seconds: .min) >= .zero)
        #expect(WallTime(seconds: .min) - time <= .zero)
    }

    @Test func differenceCountsNanoseconds() {
        let earlier = WallTime(seconds: 1, nanoseconds: 999_999_999)
        let later = WallTime(seconds: 2, nanoseconds: 1)
        #expect(later - earlier == .nanoseconds(2))
        #expect(earlier - later == .nanoseconds(-2))
        #expect(earlier < later)
    }

    @Test func goZeroIsTheFirstMomentOfTheYearOne() {
        #expect(WallTime.goZero.description == "0001-01-01T00:00:00Z")
    }
}
