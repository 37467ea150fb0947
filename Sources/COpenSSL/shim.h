#ifndef PULSEFS_COPENSSL_H
#define PULSEFS_COPENSSL_H

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

// SSL_CTX_set_min_proto_version(3): a macro.
static inline int copenssl_require_tls12(SSL_CTX *context) {
    return SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1;
}

// SSL_set_tlsext_host_name(3), server name indication: a macro.
static inline int copenssl_set_server_name(SSL *session, const char *name) {
    return SSL_set_tlsext_host_name(session, name) == 1;
}

// SSL_OP_NO_RENEGOTIATION: a macro with a cast inside. Without renegotiation, SSL_write never has to wait for a read.
static inline void copenssl_refuse_renegotiation(SSL_CTX *context) {
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION);
}

#endif
