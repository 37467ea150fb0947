#ifndef PULSEFS_COPENSSL_H
#define PULSEFS_COPENSSL_H

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#endif
