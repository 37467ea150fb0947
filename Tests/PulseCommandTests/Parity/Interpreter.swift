import CLinux
import Glibc
import SystemPackage

/// Makes the system calls of scenarios in one directory and reports each outcome.
///
/// Used on a `CallerThread`. Its working directory, umask and ids belong to one interpreter at a time: the last that
/// called `enter`.
///
/// The calls are in the extensions, by topic. Most are named as in section 2 of the manual. The notation of the file,
/// `f`, `@d/f` or `@a`, selects the plain, the `*at` or the descriptor form. Compound calls are:
///
/// - `as CALLER`: continues as another user.
/// - `make PATH file|directory|fifo|socket|symlink|char:1:3 MODE`: the call that makes such a file.
/// - `create PATH MODE`, `put PATH BYTES`, `content PATH`, `list PATH`: open, use, close.
/// - `times PATH`; `note PATH` and later `changes PATH`: the times that have changed since.
/// - `same PATH PATH`: whether two names have one inode.
/// - `setfacl PATH access|default ENTRIES`, `getfacl PATH access|default`: ACLs as text.
/// - `store @m OFFSET BYTES`, `load @m OFFSET COUNT`: mapped memory; `EFAULT` instead of `SIGBUS`.
/// - `populate PATH PREFIX COUNT`, `readdir @d COUNT`, `rest @d PREFIX`: large directories, read in parts.
/// - `execute PATH`: the exit status of a program; `@p = run PATH` until `close @p`.
final class Interpreter {
    /// The directory of relative paths.
    let directory: String
    /// The first caller, who also inspects the result.
    let owner: TestUser
    private let root: Int
    private var caller: TestUser
    private var mask = 0o022
    private var workingDirectory: Int

    /// The rest of the current line, and the name that it defines.
    private var words: ArraySlice<Scenario.Word> = []
    private var result: String?

    private var descriptors: [String: Int] = [:]
    var mappings: [String: (address: Int, length: Int)] = [:]
    var programs: [Int: pid_t] = [:]
    var recordedTimes: [String: FileTimes] = [:]
    var directoryEntries: [Int: [DirectoryEntry]] = [:]
    /// Times from this one on become `now`.
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

    /// Switches the thread to this interpreter.
    func enter() throws {
        // Entered as the owner: the next line's caller may lack permission.
        try CallerThread.become(owner)
        try systemCall(SYS_fchdir, workingDirectory)
        try systemCall(SYS_umask, mask)
        try CallerThread.become(caller)
    }

    /// Writes mapped memory to the files, so that the backing tree has it, too.
    func flushMappings() throws {
        for mapping in mappings.values {
            _ = try? systemCall(SYS_msync, mapping.address, mapping.length, Int(MS_SYNC))
        }
    }

    /// Takes over a descriptor of the thread's new working directory.
    func work(in directory: Int) {
        if workingDirectory != root { _ = try? systemCall(SYS_close, workingDirectory) }
        workingDirectory = directory
    }

    /// Closes descriptors, ends programs, and gives the thread back to the owner.
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
    /// - Returns: The name of the errno, or the call's result.
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

    /// 0 at the end of the line.
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

    /// The name of a mapping or descriptor.
    func name() throws -> String {
        let text = try word().text
        guard text.hasPrefix("@") else { throw malformed("no descriptor: \(text)") }
        return String(text.dropFirst())
    }

    /// A closed descriptor if there is none of that name.
    func descriptor() throws -> Int { descriptor(named: try name()) }

    private func descriptor(named name: String) -> Int { descriptors[name] ?? -1 }

    // MARK: Results

    /// Stores a descriptor under the line's name, or closes it.
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

    /// Makes a call whose first argument is a place and whose only result is success.
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
