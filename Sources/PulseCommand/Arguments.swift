import ArgumentParser
import Daemon
import Linux
import Liveness
import SystemPackage
import TownFS

/// The town of a command, and its main mount.
struct TownPath {
    /// Absolute, without symbolic links.
    let path: String
    let mount: MountInfo?

    /// Resolves an argument, also if the town's mount is dead.
    init(_ argument: String) throws {
        do throws(Errno) {
            path = try FilePaths.resolved(argument)
        } catch .socketNotConnected where argument.hasPrefix("/"), .connectionAbort where argument.hasPrefix("/") {
            // A dead mount cannot be resolved.
            path = argument.count > 1 && argument.hasSuffix("/") ? String(argument.dropLast()) : argument
        } catch {
            throw Failure("there is no town at \(argument): \(error)")
        }
        mount = try MountTable().town(at: path)
    }

    /// The main mount; throws a message for the user if there is none.
    func requireMount() throws -> MountInfo {
        guard let mount else { throw Failure("\(path) is not mounted.", .notMounted) }
        return mount
    }
}

extension ArgumentHelp {
    static var town: ArgumentHelp { ArgumentHelp("The mounted directory.", valueName: "town") }
    static var runtime: ArgumentHelp {
        ArgumentHelp("A runtime id: mayor, gastown/polecats/furiosa, a UUID, a session, any name.", valueName: "id")
    }
}

extension CompletionKind {
    /// Runtime ids of the town on the command line.
    static var runtimes: CompletionKind {
        .custom { words, _, prefix in RuntimeReport.completions(for: words, beginningWith: prefix) }
    }
}

extension RuntimeReport {
    /// The ids that a town knows; empty if it does not answer.
    ///
    /// Without ids that hold anything special to a shell: bash evaluates `$(…)` in the words that it is offered.
    ///
    /// - Parameter words: `pulsefs alive TOWN ID…`, with options anywhere.
    static func completions(for words: [String], beginningWith prefix: String) -> [String] {
        // The first are the program and the subcommand.
        let arguments = words.filter { !$0.hasPrefix("-") }.dropFirst(2)
        guard let town = arguments.first, let mount = try? TownPath(town).mount else { return [] }
        // The user waits after pressing Tab.
        let answer = try? TownAnswer.ask(within: .seconds(1)) { () throws(Errno) in
            try ids(in: OwnedDescriptor(openingPulse: "runtimes", of: mount))
        }
        guard case .value(let ids)? = answer else { return [] }
        return ids.map(\.description).filter { id in
            id.hasBytes(atStart: prefix)
                && id.utf8.allSatisfy { $0 == UInt8(ascii: "/") || RuntimeID.isAllowedInName($0) }
        }
    }
}
