import Glibc
import SystemPackage

/// A tree of small files, like a repository's work tree: twenty files to a directory, ten directories to a parent.
struct SourceTree {
    let root: String

    /// Makes the tree: sizes go from 100 bytes to 8 KiB, and are the same in every run.
    func plant(files: Int) throws {
        try makeDirectory(root)
        var directory = root
        for number in 0..<files {
            if number % 200 == 0 { try makeDirectory("\(root)/part\(number / 200)") }
            if number % 20 == 0 {
                directory = "\(root)/part\(number / 200)/module\(number / 20)"
                try makeDirectory(directory)
            }
            let path = "\(directory)/source\(number).txt"
            let bytes = [UInt8](repeating: UInt8(ascii: "x"), count: 100 + (number &* 739) % 8_093)
            do {
                try GoFile(path: path).write(bytes)
            } catch {
                throw BenchFailure("cannot write \(path)", error)
            }
        }
    }

    /// Lists every directory and calls lstat(2) on every name; gives the number of files that are not directories.
    func walk() throws -> Int {
        var files = 0
        var directories = [root]
        while let directory = directories.popLast() {
            guard let stream = opendir(directory) else {
                throw BenchFailure("cannot list \(directory)", Errno(rawValue: errno))
            }
            defer { closedir(stream) }
            while let entry = readdir(stream) {
                let name = withUnsafePointer(to: &entry.pointee.d_name) {
                    $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
                }
                if name == "." || name == ".." { continue }
                let path = "\(directory)/\(name)"
                var attributes = stat()
                guard lstat(path, &attributes) == 0 else {
                    throw BenchFailure("cannot stat \(path)", Errno(rawValue: errno))
                }
                if attributes.st_mode & S_IFMT == S_IFDIR { directories.append(path) } else { files += 1 }
            }
        }
        return files
    }

    private func makeDirectory(_ path: String) throws {
        guard mkdir(path, 0o755) == 0 else { throw BenchFailure("cannot make \(path)", Errno(rawValue: errno)) }
    }
}
