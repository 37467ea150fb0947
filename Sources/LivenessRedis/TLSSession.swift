import COpenSSL
import Glibc

/// The client side of a TLS connection, in memory; the owner sends and receives the ciphertext.
///
/// TLS 1.2 or later. The server's certificate must be signed by a trusted authority and name the host. After an error
/// the session is unusable. Not thread-safe.
final class TLSSession {
    /// Maximum bytes of plaintext in a record.
    static let maximumRecord = 16 << 10

    private let context: OpaquePointer
    private let session: OpaquePointer
    // Both are owned by the session.
    private let received: OpaquePointer
    private let unsent: OpaquePointer
    private var block = [UInt8](repeating: 0, count: maximumRecord)

    /// - Parameters:
    ///   - host: The name or address that the certificate must contain.
    ///   - caFile: Trusted authorities, PEM; nil for the system's.
    init(host: String, caFile: String?) throws(RedisError) {
        ERR_clear_error()
        guard let context = SSL_CTX_new(TLS_client_method()) else { throw Self.failure("no TLS") }
        var session: OpaquePointer?
        do throws(RedisError) {
            guard copenssl_require_tls12(context) == 1 else { throw Self.failure("no TLS 1.2") }
            copenssl_refuse_renegotiation(context)
            SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nil)
            let isTrustLoaded =
                caFile.map { SSL_CTX_load_verify_locations(context, $0, nil) }
                ?? SSL_CTX_set_default_verify_paths(context)
            guard isTrustLoaded == 1 else {
                let owner = caFile == nil ? "system's" : "file of"
                throw .tlsRefused("the \(owner) certificate authorities cannot be read")
            }
            session = SSL_new(context)
            guard let session else { throw Self.failure("no TLS session") }
            try Self.expect(host, of: session)
            guard let received = BIO_new(BIO_s_mem()) else { throw Self.failure("no memory") }
            guard let unsent = BIO_new(BIO_s_mem()) else {
                BIO_free(received)
                throw Self.failure("no memory")
            }
            SSL_set_bio(session, received, unsent)
            SSL_set_connect_state(session)
            (self.context, self.session, self.received, self.unsent) = (context, session, received, unsent)
        } catch {
            SSL_free(session)
            SSL_CTX_free(context)
            throw error
        }
    }

    deinit {
        SSL_free(session)
        SSL_CTX_free(context)
    }

    /// Requires `host` in the certificate, and sends it as the server name.
    private static func expect(_ host: String, of session: OpaquePointer) throws(RedisError) {
        var binary = in6_addr()
        if inet_pton(AF_INET, host, &binary) == 1 || inet_pton(AF_INET6, host, &binary) == 1 {
            guard X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session), host) == 1 else {
                throw failure("the address cannot be checked")
            }
        } else {
            SSL_set_hostflags(session, UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS))
            guard SSL_set1_host(session, host) == 1, copenssl_set_server_name(session, host) == 1 else {
                throw failure("the host name cannot be checked")
            }
        }
    }

    /// Accepts bytes from the server.
    func receive(_ ciphertext: RawSpan) throws(RedisError) {
        guard !ciphertext.isEmpty else { return }
        let written = ciphertext.withUnsafeBytes { BIO_write(received, $0.baseAddress, CInt($0.count)) }
        guard written == ciphertext.byteCount else { throw Self.failure("no memory") }
    }

    /// Moves ciphertext that must be sent to the end of `bytes`.
    func moveUnsent(to bytes: inout [UInt8]) {
        while true {
            let count = BIO_read(unsent, &block, CInt(block.count))
            guard count > 0 else { return }
            bytes += block[..<Int(count)]
        }
    }

    /// Continues the handshake as far as the bytes received allow.
    ///
    /// - Returns: Whether it is complete.
    func handshake() throws(RedisError) -> Bool {
        ERR_clear_error()
        let result = SSL_do_handshake(session)
        guard result != 1 else { return true }
        try check(result)
        return false
    }

    /// Call after the handshake.
    func encrypt(_ plaintext: RawSpan) throws(RedisError) {
        var rest = plaintext
        while !rest.isEmpty {
            ERR_clear_error()
            let count = rest.withUnsafeBytes { SSL_write(session, $0.baseAddress, CInt(clamping: $0.count)) }
            guard count > 0 else {
                try check(count)
                throw .tlsRefused("it cannot be written to")
            }
            rest = rest.extracting(droppingFirst: Int(count))
        }
    }

    /// Passes the plaintext received to `body`, in parts.
    ///
    /// - Returns: False once the server has ended the session.
    func decrypt(_ body: (RawSpan) throws(RedisError) -> Void) throws(RedisError) -> Bool {
        while true {
            ERR_clear_error()
            let count = SSL_read(session, &block, CInt(block.count))
            guard count > 0 else {
                if SSL_get_error(session, count) == SSL_ERROR_ZERO_RETURN { return false }
                try check(count)
                return true
            }
            let block = block
            try body(block.span.bytes.extracting(first: Int(count)))
        }
    }

    /// Throws unless the call only needs more bytes.
    private func check(_ result: CInt) throws(RedisError) {
        if [SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE].contains(SSL_get_error(session, result)) { return }
        let verdict = SSL_get_verify_result(session)
        guard verdict == X509_V_OK else {
            throw .tlsRefused(
                "the certificate is not accepted, \(String(cString: X509_verify_cert_error_string(verdict)))")
        }
        throw Self.failure("the server closed it")
    }

    /// OpenSSL's last error, or `otherwise` without one.
    private static func failure(_ otherwise: String) -> RedisError {
        guard let reason = ERR_reason_error_string(ERR_peek_last_error()) else { return .tlsRefused(otherwise) }
        return .tlsRefused(String(cString: reason))
    }
}
