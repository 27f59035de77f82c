#ifndef HEXSUM_HEX_H
#define HEXSUM_HEX_H

#include "sha256.h"

enum { HEX_TEXT_BYTES = 2 * SHA256_DIGEST_BYTES + 1 };

/* Write a digest as lower-case hexadecimal digits and a NUL. */
static inline void hex_text(const unsigned char digest[SHA256_DIGEST_BYTES], char text[HEX_TEXT_BYTES])
{
    static const char digits[] = "0123456789abcdef";

    for (unsigned i = 0; i < SHA256_DIGEST_BYTES; i++) {
        text[2 * i] = digits[digest[i] >> 4];
        text[2 * i + 1] = digits[digest[i] & 15];
    }
    text[HEX_TEXT_BYTES - 1] = '\0';
}

#endif
