import CLinux
import Glibc
import SystemPackage

/// Makes the system calls of scenarios in one directory, and says what came of each.
///
/// To be used on a `CallerThread`, where the working directory, the umask and the ids are those of one interpreter at a
/// time: of the last that was told to `enter`.
///
/// The calls are in the extensions, by topic. Most are called and spelled as in section 2 of the manual; `*at` forms and
/// those for descriptors are chosen by how the file is written: `f`, `@d/f`, `@a`. Calls of several are:
///
/// - `as CALLER`: goes on as somebody else.
/// - `make PATH file|directory|fifo|socket|symlink|char:1:3 MODE`: whatever call makes that.
/// - `create PATH MODE`, `put PATH BYTES`, `content PATH`, `list PATH`: open, use, close.
/// - `times PATH`; `note PATH` and later `changes PATH`: which times have moved since.
/// - `same PATH PATH`: whether two names are of one inode.
/// - `setfacl PATH access|default ENTRIES`, `getfacl PATH access|default`: extended attributes in words.
/// - `store @m OFFSET BYTES`, `load @m OFFSET COUNT`: in mapped memory; `EFAULT` where it would be `SIGBUS`.
/// - `populate PATH PREFIX COUNT`, `readdir @d COUNT`, `rest @d PREFIX`: large directories, in parts.
/// - `execute PATH`: the exit status of a program; `@p = run PATH` until `close @p`.
final class Interpreter {
    /// Where relative paths begin.
    let directory: String
    /// Who begins, and who looks at the result.
    let owner: TestUser
    private let root: Int
    private var caller: TestUser
    private var mask = 0o022
    private var workingDirectory: Int

    /// Of the line at work, what is not read yet, and what it is to make.
    private var words: ArraySlice<Scenario.Word> = []
    private var result: String?

    private var descriptors: [String: Int] = [:]
    var mappings: [String: (address: Int, length: Int)] = [:]
    var programs: [Int: pid_t] = [:]
    var notedTimes: [String: FileTimes] = [:]
    var directoryEntries: [Int: [DirectoryEntry]] = [:]
    /// Times from this one on are of now.
    let start: FileTime

    init(in directory: String, as owner: TestUser, since start: FileTime) throws {
        self.directory = directory
        self.owner = owner
        self.start = start
        caller = owner
        try CallerThread.become(owner)
        root = try FilePlace(directory).withAddress { path in
            try systemCall(SYS_openat, Int(AT_FDCWD), path, Int(O_DIRECTORY | O_RDONLY | O_CLOEXEC))
        }
        workingDirectory = root
    }

    /// Makes the thread this interpreter's.
    func enter() throws {
        // Entered as whoever may: the caller of the next line may not be allowed to enter it again.
        try CallerThread.become(owner)
        try systemCall(SYS_fchdir, workingDirectory)
        try systemCall(SYS_umask, mask)
        try CallerThread.become(caller)
    }

    /// Has what was stored in mapped memory written to the files: only then it is beneath a mount as well.
    func settle() throws {
        for mapping in mappings.values {
            _ = try? systemCall(SYS_msync, mapping.address, mapping.length, Int(MS_SYNC))
        }
    }

    /// Takes a descriptor over, of the directory that the thread is in now.
    func work(in directory: Int) {
        if workingDirectory != root { _ = try? systemCall(SYS_close, workingDirectory) }
        workingDirectory = directory
    }

    /// Closes and ends whatever is still there, and leaves the thread as it was, as the owner's.
    func finish() {
        for name in Array(descriptors.keys) { try? close(name) }
        for mapping in mappings.values { _ = try? systemCall(SYS_munmap, mapping.address, mapping.length) }
        mappings = [:]
        try? CallerThread.become(owner)
        work(in: root)
        _ = try? systemCall(SYS_close, root)
        chdir("/")
        umask(0o022)
    }

    /// Makes one call.
    ///
    /// - Returns: the name of the errno, or what the call said.
    /// - Throws: `Scenario.Malformed`.
    func perform(_ line: Scenario.Line) throws -> String {
        words = line.words[...]
        result = line.result
        do {
            guard let outcome = try outcome(of: line.verb) else {
                throw Scenario.Malformed("no such call: \(line.text)")
            }
            guard words.isEmpty else { throw Scenario.Malformed("too many words: \(line.text)") }
            return outcome
        } catch let error as Errno {
            return error.name
        }
    }

    private func outcome(of verb: String) throws -> String? {
        switch verb {
        case "as":
            let name = try word().text
            guard let caller = TestUser.all.first(where: { $0.name == name }) else { throw malformed(name) }
            try CallerThread.become(caller)
            self.caller = caller
            return "ok"
        case "umask":
            mask = try number()
            try systemCall(SYS_umask, mask)
            return "ok"
        default:
            return try nameCall(verb) ?? descriptorCall(verb) ?? dataCall(verb) ?? statusCall(verb)
                ?? attributeCall(verb) ?? directoryCall(verb) ?? programCall(verb)
        }
    }

    // MARK: Words

    func malformed(_ text: String) -> Scenario.Malformed { Scenario.Malformed(text) }

    var hasMoreWords: Bool { !words.isEmpty }

    var nextWord: String { words.first?.text ?? "" }

    func word() throws -> Scenario.Word {
        guard let word = words.popFirst() else { throw malformed("a word is missing") }
        return word
    }

    func bytes() throws -> [UInt8] { try word().bytes }

    func number() throws -> Int {
        let text = try word().text
        guard let number = Vocabulary.value(of: text) else { throw malformed("no number or constant: \(text)") }
        return number
    }

    /// 0 where the line has ended.
    func flags() throws -> Int { hasMoreWords ? try number() : 0 }

    func place() throws -> FilePlace {
        let word = try word()
        if word.bytes.first == UInt8(ascii: "@") {
            let name = word.bytes.dropFirst().prefix { $0 != UInt8(ascii: "/") }
            let rest = word.bytes.dropFirst(name.count + 1)
            let descriptor = descriptor(named: String(decoding: name, as: UTF8.self))
            return rest.isEmpty ? FilePlace(descriptor: descriptor) : FilePlace(rest.dropFirst(), in: descriptor)
        }
        let link = "/proc/self/fd/"
        if word.text.hasPrefix(link + "@") {
            return FilePlace("\(link)\(descriptor(named: String(word.text.dropFirst(link.count + 1))))")
        }
        return FilePlace(word.bytes)
    }

    /// The name that a mapping or descriptor is written by.
    func name() throws -> String {
        let text = try word().text
        guard text.hasPrefix("@") else { throw malformed("no descriptor: \(text)") }
        return String(text.dropFirst())
    }

    /// One that is not open, if there is none of that name.
    func descriptor() throws -> Int { descriptor(named: try name()) }

    private func descriptor(named name: String) -> Int { descriptors[name] ?? -1 }

    // MARK: Results

    /// Keeps a descriptor by the name on the line, or closes it.
    func keep(_ descriptor: Int) throws -> String {
        guard let result else {
            try systemCall(SYS_close, descriptor)
            return "ok"
        }
        try? close(result)
        descriptors[result] = descriptor
        return "ok"
    }

    func keep(mapping address: Int, length: Int) throws -> String {
        guard let result else { throw malformed("a mapping without a name") }
        if let mapping = mappings[result] { try systemCall(SYS_munmap, mapping.address, mapping.length) }
        mappings[result] = (address, length)
        return "ok"
    }

    func close(_ name: String) throws {
        let descriptor = descriptors.removeValue(forKey: name) ?? -1
        directoryEntries[descriptor] = nil
        defer {
            if let program = programs.removeValue(forKey: descriptor) { waitpid(program, nil, 0) }
        }
        try systemCall(SYS_close, descriptor)
    }

    /// Makes a call that takes a place first, and is told all there is to say by its success.
    func call(_ number: CInt, at place: FilePlace, _ rest: Int...) throws -> String {
        try place.withAddress { path in _ = try systemCall(number, [place.directory, path] + rest) }
        return "ok"
    }

    func open(_ place: FilePlace, _ flags: Int, mode: Int = 0) throws -> Int {
        try place.withAddress { path in
            try systemCall(SYS_openat, place.directory, path, flags | Int(O_CLOEXEC), mode)
        }
    }
}
