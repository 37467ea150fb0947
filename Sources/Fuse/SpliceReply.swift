import CLinux
import Glibc
import Linux
import SystemPackage

/// Replies to large reads with the pages of the backing file: the kernel copies them once, and not through our memory.
///
/// The number of bytes is known only when they are in a pipe, and the reply begins with it. So there is one pipe for the
/// bytes and one for the whole reply, made with the first such read. Belongs to one thread.
///
/// The corresponding system call is `splice`.
struct SpliceReply: ~Copyable {
    private enum Outcome {
        case sent
        /// There was nothing to send, or the file cannot be spliced. The pipes are empty.
        case nothing
        /// The caller was killed.
        case discarded
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
        let reply: Pipe

        static func make(capacity: CInt) throws(Errno) -> Pipes {
            Pipes(bytes: try Pipe.make(capacity: capacity), reply: try Pipe.make(capacity: capacity))
        }

        func send(
            _ count: Int, of file: CInt, from offset: off_t, over transport: any Transport, to unique: UInt64
        ) -> Outcome {
            do throws(Errno) {
                var position = offset
                var size = 0
                while size < count {
                    let more: Int
                    do throws(Errno) {
                        more = try move(count - size, from: file, at: &position, to: bytes.writer)
                    } catch {
                        return size == 0 ? .nothing : .failed
                    }
                    if more == 0 { break }
                    size += more
                }
                guard size > 0 else { return .nothing }
                let replySize = MemoryLayout<fuse_out_header>.size + size
                var header = fuse_out_header(len: UInt32(replySize), error: 0, unique: unique)
                let descriptor = reply.writer.rawValue
                _ = try retryingInterrupts { write(descriptor, &header, MemoryLayout.size(ofValue: header)) }
                var moved = 0
                while moved < size {
                    moved += try move(size - moved, from: bytes.reader.rawValue, to: reply.writer)
                }
                return switch transport.reply(replySize, fromPipe: reply.reader.rawValue) {
                case nil: .sent
                case .noSuchFileOrDirectory?: .discarded
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

    /// The read sizes that are worth it, in bytes, by measurement.
    ///
    /// A smaller read is copied as fast. Readahead reads 128 KiB by default; direct reads may be larger, up to 1 MiB, and
    /// then do not fit.
    static let sizes = (16 << 10)...(256 << 10)

    /// Twice the largest size: a pipe counts pages, and the header takes one too.
    private static let capacity = CInt(512 << 10)

    private var pipes: Pipes?
    /// Reads to let pass before pipes are tried again: there were no descriptors left, or no memory for pipes
    /// (`pipe-user-pages-soft`).
    private var pause = 0
    private static let pauseAfterFailure = 1_000

    /// Replies to a read with up to `count` bytes of a file, from `offset` on.
    ///
    /// - Returns: False if nothing was replied: at the end of the file, or where the file cannot be spliced.
    mutating func send(
        _ count: Int, of file: CInt, from offset: off_t, over transport: any Transport, to unique: UInt64
    ) -> Bool {
        if pipes == nil {
            guard pause == 0 else {
                pause -= 1
                return false
            }
            pipes = try? Pipes.make(capacity: Self.capacity)
            if pipes == nil { pause = Self.pauseAfterFailure }
        }
        guard let outcome = pipes?.send(count, of: file, from: offset, over: transport, to: unique) else {
            return false
        }
        switch outcome {
        case .sent: return true
        case .nothing: return false
        case .discarded, .failed:
            // Bytes left in the pipes must not begin another reply.
            pipes = nil
            return outcome == .discarded
        }
    }
}
