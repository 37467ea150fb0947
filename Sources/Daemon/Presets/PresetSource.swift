import ArgumentParser
import Glibc
import Linux
import Liveness
import SystemPackage

/// Where presets come from.
package enum PresetSource {
    /// The preset of `--preset`: the name of a built-in one, the text itself from its `{` on, or the path of a file.
    ///
    /// Keeper and worker get the text, because the file may have changed when they start, and its path may be relative.
    static func preset(_ argument: String) throws -> Preset {
        if let builtIn = BuiltInPreset.named(argument) { return try builtIn.preset }
        let isText = argument.hasPrefix("{")
        do {
            return try PresetText.decode(isText ? Array(argument.utf8) : try read(argument))
        } catch let errors as PresetErrors {
            let first = errors.lines(for: isText ? "the text" : argument)[0]
            let others = errors.items.count + errors.omitted - 1
            guard others > 0 else { throw ValidationError(first) }
            throw ValidationError("\(first) \(others) more: 'pulsefs preset check' lists them.")
        } catch Errno.noSuchFileOrDirectory where !argument.contains("/") {
            throw ValidationError(
                "There is no preset and no file '\(argument)'. Built in are \(BuiltInPreset.list).")
        } catch let error as Errno {
            throw ValidationError("The preset \(argument) cannot be read: \(error).")
        }
    }

    /// The content of a file; of a file that is too long, its beginning, which `PresetText` rejects.
    package static func read(_ path: String) throws(Errno) -> [UInt8] {
        let file = try OwnedDescriptor(opening: path, in: AT_FDCWD, O_RDONLY)
        var bytes: [UInt8] = []
        var block = [UInt8](repeating: 0, count: 64 << 10)
        while bytes.count <= PresetText.maximumSize {
            let count = try retryingInterrupts {
                block.withUnsafeMutableBytes { Glibc.read(file.rawValue, $0.baseAddress, $0.count) }
            }
            guard count > 0 else { break }
            bytes += block.prefix(count)
        }
        return bytes
    }
}
