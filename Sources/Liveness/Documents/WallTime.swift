import Glibc

/// Wall-clock time, for documents and file times; deadlines use `ContinuousClock.Instant`.
public struct WallTime: Hashable, Comparable, Sendable {
    /// Seconds since 1970-01-01T00:00:00Z without leap seconds, as in `time_t`.
    public let seconds: Int64
    /// 0 to 999,999,999, added to `seconds` even if those are negative, as in `timespec`.
    public let nanoseconds: Int32

    /// Go's zero time: the first moment of the year 1.
    public static let goZero = WallTime(seconds: -62_135_596_800)

    /// The current time.
    ///
    /// The corresponding C function is `clock_gettime` with `CLOCK_REALTIME`.
    public static var now: WallTime {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        return WallTime(seconds: Int64(now.tv_sec), nanoseconds: Int32(now.tv_nsec))
    }

    public init(seconds: Int64, nanoseconds: Int32 = 0) {
        precondition((0..<1_000_000_000).contains(nanoseconds), "nanoseconds must be less than a second")
        self.seconds = seconds
        self.nanoseconds = nanoseconds
    }

    public static func < (earlier: WallTime, later: WallTime) -> Bool {
        (earlier.seconds, earlier.nanoseconds) < (later.seconds, later.nanoseconds)
    }

    /// Saturates at the limits of `seconds`.
    public static func + (time: WallTime, duration: Duration) -> WallTime {
        let (seconds, attoseconds) = duration.components
        var sum = time.seconds.addingReportingOverflow(seconds).partialValue
        if (sum < time.seconds) != (seconds < 0) { sum = seconds < 0 ? .min + 1 : .max - 1 }
        let nanoseconds = Int64(time.nanoseconds) + attoseconds / 1_000_000_000
        let (carry, rest) = nanoseconds.flooredQuotient(by: 1_000_000_000)
        return WallTime(seconds: sum + carry, nanoseconds: Int32(rest))
    }

    /// Cannot overflow.
    public static func - (later: WallTime, earlier: WallTime) -> Duration {
        .seconds(later.seconds) - .seconds(earlier.seconds)
            + .nanoseconds(Int64(later.nanoseconds) - Int64(earlier.nanoseconds))
    }
}

// MARK: - RFC 3339

extension WallTime: CustomStringConvertible {
    /// Parses a timestamp, accepting exactly what Go's `time.Time` accepts from JSON (Go 1.20 and later).
    ///
    /// RFC 3339 with upper-case `T` and `Z`, without leap seconds, and with four of Go's extensions: an hour of one digit,
    /// a comma before the fraction, more than nine digits of fraction (ignored), and offsets up to ±24:60. Source:
    /// `parseStrictRFC3339` in Go's `time/format_rfc3339.go`, whose strict part is disabled (golang/go#54580).
    public init?(rfc3339 text: some Sequence<UInt8>) {
        var reader = TimestampReader(rest: ArraySlice(text))
        guard
            let year = reader.number(in: 0...9999, digits: 4...4), reader.skip("-"),
            let month = reader.number(in: 1...12), reader.skip("-"),
            let day = reader.number(in: 1...Calendar.days(inMonth: month, of: year)), reader.skip("T"),
            let hour = reader.number(in: 0...23, digits: 1...2), reader.skip(":"),
            let minute = reader.number(in: 0...59), reader.skip(":"),
            let second = reader.number(in: 0...59),
            let nanoseconds = reader.fraction(),
            let offset = reader.offset(),
            reader.rest.isEmpty
        else { return nil }
        let days = Calendar.daysSince1970(year: year, month: month, day: day)
        let secondOfDay = (hour * 60 + minute) * 60 + second
        self.init(seconds: days * 86_400 + secondOfDay - offset, nanoseconds: Int32(nanoseconds))
    }

    /// As Go formats it: UTC, `Z`, and a fraction without trailing zeros.
    public var rfc3339: String {
        let (days, secondOfDay) = seconds.flooredQuotient(by: 86_400)
        let (year, month, day) = Calendar.date(daysSince1970: days)
        var text = "\(year.padded(to: 4))-\(month.padded(to: 2))-\(day.padded(to: 2))T"
        text += "\((secondOfDay / 3600).padded(to: 2)):\((secondOfDay / 60 % 60).padded(to: 2)):"
        text += (secondOfDay % 60).padded(to: 2)
        if nanoseconds > 0 {
            var fraction = nanoseconds.padded(to: 9)
            while fraction.last == "0" { fraction.removeLast() }
            text += "." + fraction
        }
        return text + "Z"
    }

    public var description: String { rfc3339 }
}

/// Parses a timestamp from the left; methods return nil or false where Go reports an error.
private struct TimestampReader {
    var rest: ArraySlice<UInt8>

    mutating func skip(_ expected: Unicode.Scalar) -> Bool {
        guard rest.first == UInt8(ascii: expected) else { return false }
        rest.removeFirst()
        return true
    }

    mutating func number(in range: ClosedRange<Int64>, digits: ClosedRange<Int> = 2...2) -> Int64? {
        let text = rest.prefix(digits.upperBound).prefix(while: \.isDigit)
        guard text.count >= digits.lowerBound else { return nil }
        rest.removeFirst(text.count)
        let number = text.reduce(0) { $0 * 10 + Int64($1 - UInt8(ascii: "0")) }
        return range.contains(number) ? number : nil
    }

    /// The nanoseconds of an optional fraction.
    mutating func fraction() -> Int64? {
        guard skip(".") || skip(",") else { return 0 }
        let text = rest.prefix(while: \.isDigit)
        guard !text.isEmpty else { return nil }
        rest.removeFirst(text.count)
        let nine = text.prefix(9)
        let scale = repeatElement(10, count: 9 - nine.count).reduce(1, *)
        return nine.reduce(0) { $0 * 10 + Int64($1 - UInt8(ascii: "0")) } * Int64(scale)
    }

    /// The zone, as seconds east of UTC.
    mutating func offset() -> Int64? {
        if skip("Z") { return 0 }
        let isEast = skip("+")
        guard isEast || skip("-"), let hours = number(in: 0...24), skip(":"), let minutes = number(in: 0...60) else {
            return nil
        }
        let offset = (hours * 60 + minutes) * 60
        return isEast ? offset : -offset
    }
}

/// The proleptic Gregorian calendar.
///
/// Years begin in March, so that a leap day comes last and the months before it have (153 × month + 2) / 5 days. An era
/// is 400 years or 146,097 days. 719,468 days lie between 0000-03-01 and 1970-01-01. (Howard Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms".)
private enum Calendar {
    static func days(inMonth month: Int64, of year: Int64) -> Int64 {
        switch month {
        case 2: year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28
        case 4, 6, 9, 11: 30
        default: 31
        }
    }

    static func daysSince1970(year: Int64, month: Int64, day: Int64) -> Int64 {
        let (era, yearOfEra) = (month > 2 ? year : year - 1).flooredQuotient(by: 400)
        let dayOfYear = (153 * ((month + 9) % 12) + 2) / 5 + day - 1
        let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
        return era * 146_097 + dayOfEra - 719_468
    }

    static func date(daysSince1970 days: Int64) -> (year: Int64, month: Int64, day: Int64) {
        let (era, dayOfEra) = (days + 719_468).flooredQuotient(by: 146_097)
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let monthFromMarch = (5 * dayOfYear + 2) / 153
        let day = dayOfYear - (153 * monthFromMarch + 2) / 5 + 1
        let month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
        return (era * 400 + yearOfEra + (month <= 2 ? 1 : 0), month, day)
    }
}

extension Int64 {
    /// Division that rounds down, so that the remainder is never negative.
    fileprivate func flooredQuotient(by divisor: Int64) -> (quotient: Int64, remainder: Int64) {
        let (quotient, remainder) = quotientAndRemainder(dividingBy: divisor)
        return remainder < 0 ? (quotient - 1, remainder + divisor) : (quotient, remainder)
    }
}

extension UInt8 {
    fileprivate var isDigit: Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(self) }
}
