extension String {
    /// A path as it may stand in a log: names are bytes, and may hold a line of their own making.
    init(printable path: [UInt8]) {
        var text = ""
        for scalar in String(decoding: path, as: UTF8.self).unicodeScalars {
            if scalar.value < 0x20 || scalar.value == 0x7F {
                text += scalar.escaped(asASCII: true)
            } else {
                text.unicodeScalars.append(scalar)
            }
        }
        self = text
    }
}
