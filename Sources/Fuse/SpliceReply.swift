import CLinux
import Glibc
import Linux
import SystemPackage

/// The pipes by which a thread answers a large read with the pages of the file beneath: the kernel copies them once, to whoever
/// reads, and not to our memory and from there.
///
/// How much a file has is known only when it is in a pipe, and what is sent begins with how much it is: so there is one for the
/// bytes and one for the message. Made when the first such read comes.
///
/// The corresponding system call is `splice`.
struct ReplyPipes: ~Copyable {
    private enum Outcome {
        case sent
        /// There was nothing to send, or the file cannot be read like this; the pipes are empty.
        case nothing
        /// Nobody waits for it any more.
        case gone
        case failed
    }

    private struct Pipe: ~Copyable {
        let reader: OwnedDescriptor
        let writer: OwnedDescriptor

        static func make(capacity: CInt) throws(Errno) -> Pipe {
            var ends: (CInt, CInt) = (-1, -1)
            _ = try retryingInterrupts { clinux_pipe(&ends.0, &ends.1) }
            let pipe = Pipe(
                reader: OwnedDescriptor(takingOwnershipOf: ends.0), writer: OwnedDescriptor(takingOwnershipOf: ends.1))
            _ = try retryingInterrupts { clinux_set_pipe_capacity(ends.1, capacity) }
            return pipe
        }
    }

    private struct Pipes: ~Copyable {
        let bytes: Pipe
        let message: Pipe

        static func make(capacity: CInt) throws(Errno) -> Pipes {
            Pipes(bytes: try Pipe.make(capacity: capacity), message: try Pipe.make(capacity: capacity))
        }

        /// As `ReplyPipes.send`.
        func send(
            _ count: Int, of file: CInt, from offset: off_t, to connection: Connection, _ unique: UInt64
        ) -> Outcome {
            do throws(Errno) {
                var position = offset
                var taken = 0
                while taken < count {
                    let more: Int
                    do throws(Errno) {
                        more = try move(count - taken, from: file, at: &position, to: bytes.writer)
                    } catch {
                        return taken == 0 ? .nothing : .failed
                    }
                    if more == 0 { break }
                    taken += more
                }
                guard taken > 0 else { return .nothing }
                let size = MemoryLayout<fuse_out_header>.size + taken
                var header = fuse_out_header(len: UInt32(size), error: 0, unique: unique)
                let descriptor = message.writer.rawValue
                _ = try retryingInterrupts { write(descriptor, &header, MemoryLayout.size(ofValue: header)) }
                var moved = 0
                while moved < taken {
                    moved += try move(taken - moved, from: bytes.reader.rawValue, to: message.writer)
                }
                return switch connection.send(size, from: message.reader.rawValue) {
                case nil: .sent
                case .noSuchFileOrDirectory?: .gone
                default: .failed
                }
            } catch {
                return .failed
            }
        }

        /// Moves pages to a pipe; EAGAIN if they do not fit.
        private func move(
            _ count: Int, from source: CInt, at position: UnsafeMutablePointer<off_t>? = nil,
            to pipe: borrowing OwnedDescriptor
        ) throws(Errno) -> Int {
            let target = pipe.rawValue
            return try retryingInterrupts { clinux_splice(source, position, target, count) }
        }
    }

    /// The reads that are worth it, in bytes.
    ///
    /// A smaller one is copied as fast as it goes through two pipes. By default the kernel reads ahead by 128 KiB; what is read past
    /// its cache may be more, up to 1 MiB, and has no room in a pipe.
    static let sizes = (16 << 10)...(256 << 10)

    /// Twice that, as a pipe counts pages, and the header is one, too.
    private static let capacity = CInt(512 << 10)

    private var pipes: Pipes?
    /// For how many reads it is not tried again to make them: there were no more to be had, of descriptors or of memory for pipes
    /// (`pipe-user-pages-soft`).
    private var pauses = 0
    private static let pausesAfterFailure = 1_000

    /// Answers a read with up to `count` bytes of a file, from `offset` on.
    ///
    /// - Returns: False if nothing has been said: because the file has no more, or cannot be read like this.
    mutating func send(
        _ count: Int, of file: CInt, from offset: off_t, to connection: Connection, unique: UInt64
    ) -> Bool {
        if pipes == nil {
            guard pauses == 0 else {
                pauses -= 1
                return false
            }
            pipes = try? Pipes.make(capacity: Self.capacity)
            if pipes == nil { pauses = Self.pausesAfterFailure }
        }
        guard let outcome = pipes?.send(count, of: file, from: offset, to: connection, unique) else { return false }
        switch outcome {
        case .sent: return true
        case .nothing: return false
        case .gone, .failed:
            // What may be left in them is not to begin another answer.
            pipes = nil
            return outcome == .gone
        }
    }
}
