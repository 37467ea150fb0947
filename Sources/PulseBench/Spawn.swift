import Glibc
import SystemPackage

/// Whose process group a spawned process is in: its own, or that of whoever starts it.
enum SpawnGroup {
    case own
    case inherited
}

/// Starts a program, found by the PATH, with its standard output going to `output`, nothing to read and no signal blocked.
///
/// The caller waits for the process. `environment` is added to the one of this process, in which it wins.
///
/// The corresponding C function is `posix_spawnp`.
func spawn(
    _ arguments: [String],
    output: FileDescriptor,
    group: SpawnGroup,
    environment: [String: String] = [:]
) throws(Errno) -> pid_t {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_adddup2(&actions, output.rawValue, STDOUT_FILENO)

    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var noSignals = sigset_t()
    sigemptyset(&noSignals)
    posix_spawnattr_setsigmask(&attributes, &noSignals)
    posix_spawnattr_setpgroup(&attributes, 0)
    let groupFlag = group == .own ? POSIX_SPAWN_SETPGROUP : 0
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | groupFlag))

    let argv = CStrings(arguments)
    let envp = CStrings(inheritedEnvironment(without: environment.keys) + environment.map { "\($0)=\($1)" })
    defer {
        argv.free()
        envp.free()
    }
    var pid: pid_t = 0
    let code = posix_spawnp(&pid, arguments[0], &actions, &attributes, argv.pointers, envp.pointers)
    guard code == 0 else { throw Errno(rawValue: code) }
    return pid
}

/// A null-terminated array of C strings, as exec takes it.
private struct CStrings {
    let pointers: [UnsafeMutablePointer<CChar>?]

    init(_ strings: [String]) {
        pointers = strings.map { strdup($0) } + [nil]
    }

    func free() {
        for pointer in pointers { Glibc.free(pointer) }
    }
}

/// The variables of this process but those named, each as `NAME=VALUE`.
private func inheritedEnvironment(without names: Dictionary<String, String>.Keys) -> [String] {
    var variables: [String] = []
    var next = environ
    while let variable = next.pointee {
        let text = String(cString: variable)
        if !names.contains(String(text.prefix { $0 != "=" })) { variables.append(text) }
        next += 1
    }
    return variables
}
