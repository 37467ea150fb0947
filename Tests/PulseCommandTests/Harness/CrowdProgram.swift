extension AgentPrograms {
    /// Many agents at once, each with four processes and a few tools.
    ///
    /// Its arguments are the file that reports completion and the number of agents. Agent number i is the polecat
    /// `p<i>` of the rig gastown, identified as `Crowd` defines. It makes 100 touches, in turn to its own heartbeat file,
    /// to the keepalive file and, by rename, to the activity file. It appends 100 lines to a file of its own and runs
    /// `gt status-line`. Then it stays.
    static let crowd = #"""
        #define _GNU_SOURCE
        #include <errno.h>
        #include <fcntl.h>
        #include <stdio.h>
        #include <stdlib.h>
        #include <string.h>
        #include <sys/wait.h>
        #include <time.h>
        #include <unistd.h>

        static char town[4096];
        static int number, kind;

        static void fail(const char *what)
        {
            fprintf(stderr, "p%d: %s: %s\n", number, what, strerror(errno));
            exit(1);
        }

        static void put(const char *path, const char *text, int flags)
        {
            int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644);
            if (file < 0) fail(path);
            if (write(file, text, strlen(text)) != (ssize_t)strlen(text)) fail(path);
            if (close(file) != 0) fail(path);
        }

        static void touch(int process, int round)
        {
            char text[4096], path[8192], other[8300], seconds[64], actor[128] = "";
            struct timespec now;
            struct tm parts;
            clock_gettime(CLOCK_REALTIME, &now);
            strftime(seconds, sizeof seconds, "%Y-%m-%dT%H:%M:%S", gmtime_r(&now.tv_sec, &parts));
            if (kind == 9) sprintf(actor, ",\"actor\":\"gastown/polecats/p%d\"", number);
            snprintf(text, sizeof text, "{\"last_command\":\"p%d %d %d\",\"timestamp\":\"%s.%09ldZ\"%s}",
                     number, process, round, seconds, now.tv_nsec, actor);
            switch (round % 3) {
            case 0:
                sprintf(path, "%s/.runtime/heartbeats/gt-p%d.json", town, number);
                put(path, text, O_TRUNC);
                break;
            case 1:
                sprintf(path, "%s/.runtime/keepalive.json", town);
                put(path, text, O_TRUNC);
                break;
            default:
                sprintf(path, "%s/daemon/activity.json", town);
                sprintf(other, "%s.%d.tmp", path, (int)getpid());
                put(other, text, O_TRUNC);
                if (rename(other, path) != 0) fail("rename");
            }
        }

        static void work(int process)
        {
            char path[8192];
            sprintf(path, "%s/gastown/polecats/p%d/%d.log", town, number, process);
            for (int round = 0; round < (kind == 9 ? 25 : 24); round++) touch(process, round);
            for (int round = 0; round < 25; round++) put(path, "line\n", O_APPEND);
        }

        static void run(const char *word)
        {
            pid_t child = fork();
            if (child == 0) {
                execlp("gt", "gt", word, NULL);
                _exit(127);
            }
            int status;
            if (waitpid(child, &status, 0) != child || status != 0) fail(word);
        }

        static void agent(void)
        {
            pid_t children[3];
            for (int process = 0; process < 3; process++) {
                children[process] = fork();
                if (children[process] == 0) {
                    work(process + 1);
                    _exit(0);
                }
            }
            work(0);
            for (int process = 0; process < 3; process++) {
                int status;
                if (waitpid(children[process], &status, 0) < 0 || status != 0) fail("child");
            }
            if (kind != 9) {
                run("prime");
                run("mail");
            }
            run("status-line");
            if (write(3, "!", 1) != 1) fail("pipe");
            for (;;) pause();
        }

        static void become(void)
        {
            char directory[8192], name[64], role[128];
            sprintf(name, "p%d", number);
            sprintf(role, "gastown/polecats/p%d", number);
            sprintf(directory, "%s/gastown/polecats/p%d", town, number);
            if (chdir(directory) != 0) fail(directory);
            if (kind != 6 && chdir("../../mayor/rig") != 0) fail("chdir");
            if (kind < 2) setenv("GT_ROLE", role, 1);
            else if (kind < 4) {
                setenv("GT_ROLE", "polecat", 1);
                setenv("GT_RIG", "gastown", 1);
                setenv("GT_POLECAT", name, 1);
            } else if (kind < 6) setenv("BD_ACTOR", role, 1);
            else if (kind == 7 || kind == 8) {
                sprintf(role, "gt-p%d", number);
                setenv("GT_SESSION", role, 1);
            }
            sprintf(role, "%d", number);
            execlp("claude-of-many", "claude-of-many", role, NULL);
            fail("claude");
        }

        int main(int count, char **words)
        {
            strcpy(town, getenv("GT_ROOT"));
            if (count == 2) {
                number = atoi(words[1]);
                kind = number % 10;
                agent();
            }
            int done[2], agents = atoi(words[2]);
            if (pipe(done) != 0) fail("pipe");
            for (number = 0; number < agents; number++) {
                kind = number % 10;
                if (fork() == 0) {
                    dup2(done[1], 3);
                    become();
                }
            }
            close(done[1]);
            for (int left = agents; left > 0; left--) {
                char answer;
                if (read(done[0], &answer, 1) != 1) fail("an agent has ended");
            }
            put(words[1], "", 0);
            for (;;) pause();
        }
        """#
}
