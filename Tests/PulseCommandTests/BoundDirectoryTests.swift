import Glibc
import Testing

extension EndToEnd {
    /// Other mounts that lie in the directory before it is mounted over.
    @Suite struct BoundDirectoryTests {
        @Test(.needsRoot, .needs("mount", "umount", "python3"))
        func mountsFromBeforeAreMountsOfTheirOwn() throws {
            let script = """
                cd "$1"
                python3 - <<'END'
                import errno, os
                def say(name, call):
                    try: print(name, call())
                    except OSError as e: print(name, errno.errorcode[e.errno])
                def names(*paths): return [sorted(os.listdir(path)) for path in paths]
                say('rename', lambda: os.rename('source/one', 'bound/two'))
                say('link', lambda: os.link('source/one', 'bound/two'))
                say('within', lambda: os.rename('source/one', 'source/two'))
                print(names('source', 'bound'))
                # What is done by one path shows by the other, though that was listed and looked up before.
                for path, other in ('source', 'bound'), ('bound', 'source'):
                    say('absent', lambda: os.stat(other + '/new'))
                    open(path + '/new', 'w').write('new'); os.mkdir(path + '/deep')
                    print(open(other + '/new').read(), names('source', 'bound', other + '/deep'))
                    open(other + '/deep/file', 'w').write('x'); print(names(path + '/deep'))
                    os.unlink(other + '/new'); os.unlink(path + '/deep/file'); os.rmdir(other + '/deep')
                    say('gone', lambda: os.stat(path + '/new')); print(names('source', 'bound'))
                    open(path + '/two', 'w').write(path); print(open(other + '/two').read())
                print(os.stat('source').st_ino == os.stat('bound').st_ino, names('.'))
                say('over', lambda: os.rename('source/two', 'file')); say('mountpoint', lambda: os.rename('bound', 'moved'))
                say('remove', lambda: os.rmdir('bound')); say('unlink', lambda: os.unlink('file'))
                say('volume', lambda: os.rename('volume/a', 'source/a')); say('second', lambda: names('volume', 'again'))
                open('volume/b', 'w').close(); print(names('again')); os.unlink('again/b'); print(names('volume'))
                END
                """
            func prepare(_ path: String) throws {
                let made = """
                    cd "$1"; mkdir source bound volume again; echo 1 > source/one; echo f > file
                    mount -t tmpfs tmpfs volume; echo a > volume/a; mount --bind volume again
                    mount --bind source bound; mount --bind /etc/hostname file
                    """
                try Command("sh", "-euc", made, "sh", path).output()
            }
            func clear(_ path: String) {
                for name in ["file", "bound", "again", "volume"] { umount2("\(path)/\(name)", CInt(MNT_DETACH)) }
            }
            try withTown { town in
                let plain = try town.scratch.directory("plain")
                defer { for path in [plain, "\(town.path)/mayor"] { clear(path) } }
                for path in [plain, "\(town.path)/mayor"] { try prepare(path) }
                let expected = try Command("sh", "-euc", script, "sh", plain).output()
                try town.mount()
                let printed = try Command("sh", "-euc", script, "sh", "\(town.path)/mayor").run()
                #expect(printed.output == expected, "\(printed.errors)")
                try town.unmount()
            }
        }
    }
}
