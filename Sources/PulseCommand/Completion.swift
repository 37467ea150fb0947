import ArgumentParser
import SystemCalls
import SystemPackage

extension CompletionKind {
    /// The ids that a town knows: of the town that is on the line already.
    static var runtimes: CompletionKind {
        .custom { words, _, prefix in
            // `pulsefs alive TOWN ID…`, with options anywhere; the first word is the program, then the subcommand.
            let names = words.dropFirst().filter { !$0.hasPrefix("-") }.dropFirst()
            guard let town = names.first, let mount = try? TownPath(town).mount else { return [] }
            // A person waits for the tabulator.
            let answer = try? TownAnswer.ask(within: .seconds(1)) { () throws(Errno) in
                try RuntimeFile.ids(in: OwnedDescriptor(openingPulse: "runtimes", of: mount))
            }
            guard case .value(let ids)? = answer else { return [] }
            return ids.map(\.description).filter { $0.hasPrefix(prefix) }
        }
    }
}
