import ArgumentParser
import CLinux
import Glibc
import Linux

/// `pulsefs keeper`: started by `pulsefs mount`, never by a person.
struct KeeperCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "keeper", abstract: "Own a mount (started by 'pulsefs mount').", shouldDisplay: false)

    /// Where `pulsefs mount` waits to hear how it went.
    static let report: CInt = 3
    /// The Redis URL, with --redis-inherited.
    static let secret: CInt = 4

    @OptionGroup var options: MountOptions
    @Argument var town: String

    func run() throws {
        guard fcntl(Self.report, F_GETFD) != -1 else {
            throw Failure("'pulsefs keeper' is started by 'pulsefs mount', not by hand.", .usage)
        }
        // Started by way of /proc/self/exe, it would be called "exe" in ps(1).
        clinux_name_this_thread("pulsefs-keeper")
        let report = OwnedDescriptor(takingOwnershipOf: Self.report)
        func sendReport(_ outcome: Result<Void, Failure>) {
            let words = Mount.encode(outcome)
            _ = words.utf8CString.withUnsafeBytes { write(report.rawValue, $0.baseAddress, $0.count - 1) }
        }
        let secret = options.mirror.inheritedSecret(Self.secret)
        let keeper: Keeper
        do {
            keeper = try Keeper.mount(over: town, options: options, secret: secret, log: Log.logger("keeper"))
        } catch {
            let failure = error as? Failure ?? Failure("\(error)")
            sendReport(.failure(failure))
            Glibc.exit(failure.status.rawValue)
        }
        let status = keeper.run { outcome in
            sendReport(outcome)
            // Whoever waits for the end of this, waits no longer.
            close(Self.report)
        }
        Glibc.exit(status.rawValue)
    }
}
