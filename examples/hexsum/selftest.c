/* Known answers: the examples that NIST publishes for FIPS 180-4 (one block, two blocks, long message). */
#include "selftest.h"

#include "hex.h"
#include "sha256.h"

#include <stdio.h>
#include <string.h>

struct answer {
    const char *name;
    const char *message;
    unsigned long times;
    const char *digest;
};

static const struct answer answers[] = {
    {"empty", "", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"24-bit", "abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"448-bit", "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    {"896-bit",
     "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
     "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
     1, "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
    {"million-a", "aaaaaaaaaa", 100000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
};

int self_test(void)
{
    int wrong = 0;

    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        const struct answer *answer = &answers[i];
        struct sha256 hash;
        unsigned char digest[SHA256_DIGEST_BYTES];
        char text[HEX_TEXT_BYTES];

        sha256_start(&hash);
        for (unsigned long n = 0; n < answer->times; n++)
            sha256_add(&hash, answer->message, strlen(answer->message));
        sha256_finish(&hash, digest);
        hex_text(digest, text);
        printf("%s %s\n", answer->name, text);
        if (strcmp(text, answer->digest) != 0) {
            printf("WRONG: %s should be %s\n", answer->name, answer->digest);
            wrong++;
        }
    }
    if (!wrong)
        puts("ok");
    return wrong;
}
