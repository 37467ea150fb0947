/// Source code of agents and their tools.
enum AgentPrograms {
    /// Executes orders, one per line, and answers each.
    ///
    /// An order is Python code as a JSON string. An answer is a JSON object with a value or an error.
    static let agent = #"""
        import json, os, select, signal, sys, time, traceback

        orders = open(sys.argv[1], "rb", buffering=0)
        answers = open(sys.argv[2], "wb", buffering=0)
        town = os.environ["GT_ROOT"]
        keepalive = town + "/.runtime/keepalive.json"
        activity = town + "/daemon/activity.json"

        def heartbeat(session): return town + "/.runtime/heartbeats/" + session + ".json"

        def now():
            t = time.time_ns()
            return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(t // 10**9)) + ".%09dZ" % (t % 10**9)

        def document(**fields): return json.dumps({**fields, "timestamp": now()}, separators=(",", ":"))

        # As Go's os.WriteFile.
        def write(path, text, mode=0o644):
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
            try: os.write(file, text.encode())
            finally: os.close(file)

        def beat(session, state="working"): write(heartbeat(session), document(state=state))
        def touch(command): write(keepalive, document(last_command=command))

        # As bd replaces a file.
        def replace(path, text):
            write(path + ".tmp", text)
            os.rename(path + ".tmp", path)

        def bd(**fields): replace(activity, document(last_command="bd list", **fields))

        # As an editor does: beside it, and renamed.
        def edit(name, text="int main(void) { return 0; }\n"):
            write(name + "~", text)
            os.rename(name + "~", name)

        # Starts a program, by default with the agent's environment and in its directory.
        def start(*words, before=None, env=None, name=None):
            child = os.fork()
            if child: return child
            try:
                if before: before()
                os.execvpe(name or words[0], words, os.environ if env is None else env)
            finally: os._exit(127)

        def fork(body):
            child = os.fork()
            if child: return child
            try:
                body()
                os._exit(0)
            except BaseException: traceback.print_exc()
            finally: os._exit(1)

        def wait(child):
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if status: raise Exception("%d has ended with %d" % (child, status))
            return child

        def run(*words, **how): return wait(start(*words, **how))

        # Works, step by step, until the next order is there, and says how many steps it were.
        # longest_pause is the longest time from the end of one step to the end of the next, in seconds.
        def work(step):
            global longest_pause
            count, longest_pause, last = 0, 0, time.monotonic()
            while not select.select([orders], [], [], 0)[0]:
                step()
                count += 1
                now = time.monotonic()
                longest_pause, last = max(longest_pause, now - last), now
            return count

        # Wakes a process that waits.
        class Signal:
            def __init__(self): self.reading, self.writing = os.pipe()
            def raise_(self): os.write(self.writing, b"!")
            def wait(self): os.read(self.reading, 1)

        answers.write(b'{"value":""}\n')
        while line := orders.readline():
            scope = globals()
            scope["result"] = ""
            try:
                exec(json.loads(line), scope)
                answer = {"value": str(result)}
            except Exception: answer = {"error": traceback.format_exc()}
            answers.write(json.dumps(answer).encode() + b"\n")
        """#

    /// A `gt` that only writes the files.
    ///
    /// `gt daemon run` stays. So do `gt nudge-poller` and `gt agent-log`, which rename a file again and again:
    /// `.runtime/queue/<n>` to `<n + 1>`. Every other command exits at once.
    static let gt = #"""
        #include <fcntl.h>
        #include <stdio.h>
        #include <stdlib.h>
        #include <string.h>
        #include <sys/stat.h>
        #include <time.h>
        #include <unistd.h>

        static void put(const char *name, const char *command)
        {
            char path[8192], document[8192], seconds[64];
            struct timespec now;
            struct tm parts;
            clock_gettime(CLOCK_REALTIME, &now);
            strftime(seconds, sizeof seconds, "%Y-%m-%dT%H:%M:%S", gmtime_r(&now.tv_sec, &parts));
            int length = snprintf(document, sizeof document, "{\"last_command\":\"%s\",\"timestamp\":\"%s.%09ldZ\"}",
                                  command, seconds, now.tv_nsec);
            snprintf(path, sizeof path, "%s/%s", getenv("GT_ROOT"), name);
            int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
            if (file < 0 || write(file, document, length) != length || close(file) != 0) {
                perror(path);
                exit(1);
            }
        }

        static void poll_queue(void)
        {
            char from[8192], to[8192];
            snprintf(from, sizeof from, "%s/.runtime/queue", getenv("GT_ROOT"));
            mkdir(from, 0755);
            snprintf(from, sizeof from, "%s/.runtime/queue/0", getenv("GT_ROOT"));
            close(open(from, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
            for (int number = 1;; number++) {
                snprintf(to, sizeof to, "%s/.runtime/queue/%d", getenv("GT_ROOT"), number);
                if (rename(from, to) != 0) perror(to);
                strcpy(from, to);
                usleep(10000);
            }
        }

        int main(int count, char **words)
        {
            char command[4096] = "gt";
            for (int i = 1; i < count; i++) {
                strcat(command, " ");
                strcat(command, words[i]);
            }
            put(".runtime/keepalive.json", command);
            put("daemon/activity.json", command);
            if (strcmp(command, "gt daemon run") == 0) for (;;) pause();
            if (count > 1 && (strcmp(words[1], "nudge-poller") == 0 || strcmp(words[1], "agent-log") == 0)) poll_queue();
            return 0;
        }
        """#
}
