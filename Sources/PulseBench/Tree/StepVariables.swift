/// The variables of a step: for its scripts in the environment, for its programs put in for `$NAME`.
struct StepVariables {
    private let values: [String: String]
    /// The file that the work prints to.
    let out: String
    /// A directory beside the targets.
    let keep: String

    /// - `SOURCE`: the bare repository that is cloned.
    /// - `INPUTS`: the directory of what all targets are given alike.
    /// - `KEEP`: a directory beside the targets, for what a step writes elsewhere.
    /// - `PATTERN`: the word that is searched for.
    /// - `MEGABYTES`: the size of the big file.
    /// - `OUT`: the file that the work prints to.
    init(inputs: String, keep: String, pattern: String, megabytes: Int) {
        self.keep = keep
        out = "\(keep)/out"
        values = [
            "SOURCE": "\(inputs)/source.git",
            "INPUTS": inputs,
            "KEEP": keep,
            "PATTERN": pattern,
            "MEGABYTES": "\(megabytes)",
            "OUT": out,
        ]
    }

    /// What a child process gets: the variables, and settings that make tools do the same for everybody.
    var environment: [String: String] { values.merging(Self.sameForEverybody) { own, _ in own } }

    /// Splits a command at blanks and puts values in for names; the longest name wins.
    func words(of command: String) -> [String] {
        let names = values.keys.sorted { $0.utf8.count > $1.utf8.count }
        return command.split(separator: " ").map { word in
            names.reduce(String(word)) { $0.replacing("$\($1)", with: values[$1]!) }  // because `names` are its keys
        }
    }

    /// No configuration of the user's or of the machine's, no clock in a commit, nothing in the background.
    static let sameForEverybody: [String: String] = [
        "LC_ALL": "C",
        "TZ": "UTC",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_COUNT": "3",
        "GIT_CONFIG_KEY_0": "gc.auto",
        "GIT_CONFIG_VALUE_0": "0",
        "GIT_CONFIG_KEY_1": "maintenance.auto",
        "GIT_CONFIG_VALUE_1": "false",
        "GIT_CONFIG_KEY_2": "init.defaultBranch",
        "GIT_CONFIG_VALUE_2": "main",
        "GIT_AUTHOR_NAME": "bench",
        "GIT_AUTHOR_EMAIL": "bench@example.invalid",
        "GIT_AUTHOR_DATE": "1700000000 +0000",
        "GIT_COMMITTER_NAME": "bench",
        "GIT_COMMITTER_EMAIL": "bench@example.invalid",
        "GIT_COMMITTER_DATE": "1700000000 +0000",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ADVICE": "0",
    ]
}
