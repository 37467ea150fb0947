/// Three significant digits or, from 100 up, all those before the point.
func number(_ value: Double) -> String {
    decimal(value, digits: value >= 100 ? 0 : value >= 10 ? 1 : 2)
}

func percent(_ share: Double, digits: Int) -> String {
    "\(decimal(share * 100, digits: digits)) %"
}

/// A number that is not negative, with a fixed count of digits after the point, for which FoundationEssentials has no format.
func decimal(_ value: Double, digits: Int) -> String {
    let scale = (0..<digits).reduce(1) { product, _ in product * 10 }
    let scaled = Int((value * Double(scale)).rounded())
    let fraction = String(scaled % scale)
    guard digits > 0 else { return "\(scaled)" }
    return "\(scaled / scale)." + String(repeating: "0", count: digits - fraction.count) + fraction
}

/// A Markdown table with its columns padded to one width; the first column is text, the others are ranged right.
func markdownTable(_ head: [String], _ rows: [[String]]) -> [String] {
    let widths = head.indices.map { column in ([head] + rows).map { $0[column].count }.max() ?? 0 }
    func line(_ cells: [String]) -> String {
        let padded = zip(cells, widths).enumerated().map { column, cell in
            let padding = String(repeating: " ", count: cell.1 - cell.0.count)
            return column == 0 ? cell.0 + padding : padding + cell.0
        }
        return "| " + padded.joined(separator: " | ") + " |"
    }
    let rule = widths.enumerated().map { String(repeating: "-", count: $1 - 1) + ($0 == 0 ? "-" : ":") }
    return [line(head), "| " + rule.joined(separator: " | ") + " |"] + rows.map(line)
}
