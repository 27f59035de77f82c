/* The letters a to h, W, K, Ch, Maj and the sigmas are those of FIPS 180-4, sections 4.1.2, 4.2.2, 5 and 6.2.
 *
 * Words are put together from single bytes by shifts, so the machine's own byte order and alignment do not matter.
 */
#include "sha256.h"

#include <string.h>

enum { ROUNDS = 64, LENGTH_BYTES = 8 };

static const uint32_t initial[8] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

static const uint32_t K[ROUNDS] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotated_right(uint32_t word, unsigned bits)
{
    return word >> bits | word << (32 - bits);
}

static uint32_t word_from(const unsigned char bytes[4])
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static void bytes_from(uint64_t number, unsigned char *bytes, unsigned count)
{
    while (count--) {
        bytes[count] = (unsigned char)(number & 0xff);
        number >>= 8;
    }
}

static void schedule(uint32_t W[ROUNDS], const unsigned char *block)
{
    for (unsigned t = 0; t < 16; t++)
        W[t] = word_from(block + 4 * t);
    for (unsigned t = 16; t < ROUNDS; t++) {
        uint32_t near = W[t - 15], far = W[t - 2];
        uint32_t sigma0 = rotated_right(near, 7) ^ rotated_right(near, 18) ^ near >> 3;
        uint32_t sigma1 = rotated_right(far, 17) ^ rotated_right(far, 19) ^ far >> 10;
        W[t] = sigma1 + W[t - 7] + sigma0 + W[t - 16];
    }
}

static void add_block(uint32_t state[8], const unsigned char *block)
{
    uint32_t W[ROUNDS];
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];

    schedule(W, block);
    for (unsigned t = 0; t < ROUNDS; t++) {
        uint32_t Sigma1 = rotated_right(e, 6) ^ rotated_right(e, 11) ^ rotated_right(e, 25);
        uint32_t Sigma0 = rotated_right(a, 2) ^ rotated_right(a, 13) ^ rotated_right(a, 22);
        uint32_t Ch = (e & f) ^ (~e & g);
        uint32_t Maj = (a & b) ^ (a & c) ^ (b & c);
        uint32_t T1 = h + Sigma1 + Ch + K[t] + W[t];
        h = g, g = f, f = e, e = d + T1;
        d = c, c = b, b = a, a = T1 + Sigma0 + Maj;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

void sha256_start(struct sha256 *hash)
{
    memcpy(hash->state, initial, sizeof hash->state);
    hash->length_bytes = 0;
}

void sha256_add(struct sha256 *hash, const void *bytes, size_t count)
{
    const unsigned char *next = bytes;
    size_t held = (size_t)(hash->length_bytes % SHA256_BLOCK_BYTES);

    hash->length_bytes += count;
    if (held + count < SHA256_BLOCK_BYTES) {
        if (count)
            memcpy(hash->block + held, next, count);
        return;
    }
    if (held) {
        size_t missing = SHA256_BLOCK_BYTES - held;
        memcpy(hash->block + held, next, missing);
        add_block(hash->state, hash->block);
        next += missing, count -= missing;
    }
    for (; count >= SHA256_BLOCK_BYTES; next += SHA256_BLOCK_BYTES, count -= SHA256_BLOCK_BYTES)
        add_block(hash->state, next);
    if (count)
        memcpy(hash->block, next, count);
}

void sha256_finish(struct sha256 *hash, unsigned char digest[SHA256_DIGEST_BYTES])
{
    static const unsigned char padding[SHA256_BLOCK_BYTES] = {0x80};
    unsigned char length_bits[LENGTH_BYTES];
    size_t held = (size_t)(hash->length_bytes % SHA256_BLOCK_BYTES);
    size_t end = SHA256_BLOCK_BYTES - LENGTH_BYTES;

    bytes_from(hash->length_bytes * 8, length_bits, LENGTH_BYTES);
    sha256_add(hash, padding, held < end ? end - held : SHA256_BLOCK_BYTES + end - held);
    sha256_add(hash, length_bits, LENGTH_BYTES);
    for (unsigned i = 0; i < 8; i++)
        bytes_from(hash->state[i], digest + 4 * i, 4);
}
