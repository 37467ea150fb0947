import ArgumentParser
import Linux
import SystemPackage

extension CompletionKind {
    /// Runtime ids of the town on the command line.
    static var runtimes: CompletionKind {
        .custom { words, _, prefix in RuntimeIDCompletion.ids(for: words, beginningWith: prefix) }
    }
}

enum RuntimeIDCompletion {
    /// The ids that a town knows; empty if it does not answer.
    ///
    /// - Parameter words: `pulsefs alive TOWN ID…`, with options anywhere.
    static func ids(for words: [String], beginningWith prefix: String) -> [String] {
        // The first are the program and the subcommand.
        let arguments = words.filter { !$0.hasPrefix("-") }.dropFirst(2)
        guard let town = arguments.first, let mount = try? TownPath(town).mount else { return [] }
        // The user waits after pressing Tab.
        let answer = try? TownAnswer.ask(within: .seconds(1)) { () throws(Errno) in
            try RuntimeFile.ids(in: OwnedDescriptor(openingPulse: "runtimes", of: mount))
        }
        guard case .value(let ids)? = answer else { return [] }
        return ids.map(\.description).filter { $0.hasPrefix(prefix) }
    }
}
