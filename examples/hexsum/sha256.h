/* SHA-256 (FIPS 180-4) of a message that comes in pieces of any size. */
#ifndef HEXSUM_SHA256_H
#define HEXSUM_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { SHA256_BLOCK_BYTES = 64, SHA256_DIGEST_BYTES = 32 };

struct sha256 {
    uint32_t state[8];
    uint64_t length_bytes;
    unsigned char block[SHA256_BLOCK_BYTES]; /* the last length_bytes % SHA256_BLOCK_BYTES bytes */
};

void sha256_start(struct sha256 *hash);
void sha256_add(struct sha256 *hash, const void *bytes, size_t count);

/* Gives the digest and uses `hash` up: start it again before the next message. */
void sha256_finish(struct sha256 *hash, unsigned char digest[SHA256_DIGEST_BYTES]);

#endif
