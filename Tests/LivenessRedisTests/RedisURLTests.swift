import Testing

@testable import LivenessRedis

@Suite(.timeLimit(.minutes(5))) struct RedisURLTests {
    private func host(_ name: String, _ port: UInt16 = 6379) -> RedisURL.Host { .init(name: name, port: port) }

    @Test func hostPortAndDatabaseAreRead() throws {
        let url = try RedisURL("redis://cache.example.org:7000/15")
        #expect(url.place == .server(host("cache.example.org", 7000)))
        #expect(url.database == 15)
        #expect(!url.isEncrypted)
        #expect(url.credentials == nil)
        #expect(!url.holdsSecret)
    }

    @Test(arguments: ["redis://h", "redis://h/", "redis://h:6379/0", "REDIS://h", "redis://:@h"])
    func omittedPartsHaveDefaults(_ text: String) throws {
        let url = try RedisURL(text)
        #expect(url.place == .server(host("h")))
        #expect(url.database == 0)
        #expect(url.credentials == nil)
    }

    @Test(arguments: [
        ("redis://:secret@h", nil, "secret"),
        ("redis://ada:secret@h", "ada", "secret"),
        ("redis://ada:@h", "ada", ""),
        ("redis://a%40b:%2F%3f%23%3A%25@h", "a@b", "/?#:%"),
        ("redis://ada:a:b@c@h", "ada", "a:b@c"),
        ("unix://ada:secret@/run/redis.sock", "ada", "secret"),
        ("rediss+sentinel://ada:secret@h/town", "ada", "secret"),
    ])
    func credentialsAreDecoded(_ text: String, _ user: String?, _ password: String) throws {
        let url = try RedisURL(text)
        #expect(url.credentials?.user == user.map { Array($0.utf8) })
        #expect(url.credentials?.password == Array(password.utf8))
        #expect(url.holdsSecret)
    }

    @Test(arguments: [("redis://[::1]:7000", "::1", 7000), ("rediss://[fe80::1%25eth0]/1", "fe80::1%eth0", 6379)])
    func bracketsHoldAnIPv6Address(_ text: String, _ name: String, _ port: UInt16) throws {
        #expect(try RedisURL(text).place == .server(host(name, port)))
    }

    @Test func unixSocketHasPathAndDatabase() throws {
        let url = try RedisURL("unix:///run/my%20redis@home.sock?db=3")
        #expect(url.place == .socket(Array("/run/my redis@home.sock".utf8)))
        #expect(url.database == 3)
    }

    @Test func sentinelsNameAService() throws {
        let url = try RedisURL(
            "redis+sentinel://:data@a:1,[::1],c/to%77n/2?sentinel_user=watch&sentinel_password=d%26g")
        #expect(url.place == .sentinels([host("a", 1), host("::1", 26379), host("c", 26379)], service: "town"))
        #expect(url.database == 2)
        #expect(url.credentials == .init(user: nil, password: Array("data".utf8)))
        #expect(url.sentinelCredentials == .init(user: Array("watch".utf8), password: Array("d&g".utf8)))
    }

    @Test(arguments: [
        ("redis://ada:secret@h:7000/3", "redis://h:7000/3"),
        ("rediss://:secret@[::1]", "rediss://[::1]:6379/0"),
        ("unix://ada:secret@/run/r.sock?db=1", "unix:///run/r.sock?db=1"),
        (
            "rediss+sentinel://ada:secret@a,b:7/s?sentinel_user=ada&sentinel_password=secret",
            "rediss+sentinel://a:26379,b:7/s/0"
        ),
    ])
    func descriptionHidesUserAndPassword(_ text: String, _ shown: String) throws {
        let url = try RedisURL(text)
        #expect(url.description == shown)
        #expect("\(url)\(String(reflecting: url))" == shown + shown)
        #expect(!"\(RedisOptions(url: url))".contains("secret"))
    }

    @Test(arguments: [
        ("", RedisURL.Invalid.scheme), ("h:6379", .scheme), ("http://h", .scheme), ("redis:h", .scheme),
        ("redis://", .host), ("redis://:6379", .host), ("redis:///0", .host), ("redis://a,b", .host),
        ("redis://[::1", .host), ("redis://[nonsense]", .host), ("redis://h%41", .host),
        ("redis://::1", .unbracketed), ("redis://h:", .port), ("redis://h:0", .port), ("redis://h:65536", .port),
        ("redis://h:x", .port), ("redis://[::1]x", .port), ("redis://h:+1", .port), ("redis://h:99999999999", .port),
        ("redis://h/x", .database), ("redis://h/-1", .database), ("redis://h/1/2", .database),
        ("redis://h/2147483648", .database), ("redis://ada@h", .userWithoutPassword),
        ("redis://:secr%et@h", .percent), ("redis://:secret%4", .host), ("redis://:secret%4@h", .percent),
        ("redis://:sec#ret@h", .unencoded), ("redis://:sec/ret@h", .unencoded), ("redis://:sec?ret@h", .unencoded),
        ("redis://h?db=1", .parameter), ("unix://h/redis.sock", .socketWithHost), ("unix://", .socketPath),
        ("unix:///", .socketPath), ("unix:///a%00b", .socketPath),
        ("unix:///" + String(repeating: "a", count: 107), .socketPath), ("unix:///a?db=x", .database),
        ("unix:///a?db=1&db=2", .parameter), ("unix:///a?secret", .parameter), ("redis+sentinel://a", .service),
        ("redis+sentinel://a,/s", .host), ("redis+sentinel://a/s?sentinel_user=ada", .userWithoutPassword),
        ("redis://h h", .unprintable), ("redis://h\n", .unprintable),
    ])
    func invalidURLHasAReasonWithoutItsText(_ text: String, _ reason: RedisURL.Invalid) {
        #expect(throws: reason) { try RedisURL(text) }
        #expect(!reason.description.contains("secr"))
    }

    @Test(arguments: RedisURL.Invalid.allCases)
    func everyReasonIsOneSentence(_ reason: RedisURL.Invalid) {
        #expect(reason.description.hasSuffix("."))
        #expect(!reason.description.dropLast().contains(". "))
    }
}
