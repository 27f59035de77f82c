/* hexsum [FILE...]: print the SHA-256 of files, or of standard input, as sha256sum does. */
#include "hex.h"
#include "selftest.h"
#include "sha256.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef RELBUILD_VERSION
#define RELBUILD_VERSION "unknown"
#endif

enum ending { ENDED_WELL = 0, FILE_FAILED = 1, WRONG_USE = 2, SELF_TEST_FAILED = 3 };

static const char usage[] =
    "usage: hexsum [FILE...]    SHA-256 of each FILE; of standard input for - or no FILE\n"
    "       hexsum --self-test  check the known answers of FIPS 180-4\n"
    "       hexsum --version\n";

static enum ending complain(const char *name)
{
    fprintf(stderr, "hexsum: %s: %s\n", name, strerror(errno));
    return FILE_FAILED;
}

/* A name that would break the line is escaped, and a backslash before the digest says so (sha256sum(1)). */
static void print_line(const char *digest, const char *name)
{
    static const char special[] = "\\\n\r", letters[] = "\\nr";

    printf("%s%s  ", strpbrk(name, special) ? "\\" : "", digest);
    for (; *name; name++) {
        const char *found = strchr(special, *name);
        if (found)
            printf("\\%c", letters[found - special]);
        else
            putchar(*name);
    }
    putchar('\n');
}

static enum ending sum_stream(FILE *stream, const char *name)
{
    static unsigned char buffer[64 * 1024];
    struct sha256 hash;
    unsigned char digest[SHA256_DIGEST_BYTES];
    char text[HEX_TEXT_BYTES];
    size_t count;

    sha256_start(&hash);
    while ((count = fread(buffer, 1, sizeof buffer, stream)) > 0)
        sha256_add(&hash, buffer, count);
    if (ferror(stream))
        return complain(name);
    sha256_finish(&hash, digest);
    hex_text(digest, text);
    print_line(text, name);
    return ENDED_WELL;
}

static enum ending sum_file(const char *name)
{
    FILE *stream;
    enum ending ending;

    if (strcmp(name, "-") == 0)
        return sum_stream(stdin, name);
    stream = fopen(name, "rb");
    if (!stream)
        return complain(name);
    ending = sum_stream(stream, name);
    fclose(stream); /* it was only read: there is nothing left to lose */
    return ending;
}

/* One bad file does not stop the others; the worst ending is the program's. */
static enum ending sum_all(char **names)
{
    enum ending worst = ENDED_WELL;

    if (!*names)
        return sum_file("-");
    for (; *names; names++) {
        enum ending ending = sum_file(*names);
        if (ending > worst)
            worst = ending;
    }
    return worst;
}

static enum ending run(char **arguments)
{
    const char *first = arguments[0];

    if (!first || first[0] != '-' || strcmp(first, "-") == 0)
        return sum_all(arguments);
    if (strcmp(first, "--") == 0)
        return sum_all(arguments + 1);
    if (strcmp(first, "--self-test") == 0)
        return self_test() ? SELF_TEST_FAILED : ENDED_WELL;
    if (strcmp(first, "--version") == 0) {
        puts("hexsum " RELBUILD_VERSION);
        return ENDED_WELL;
    }
    if (strcmp(first, "--help") == 0) {
        fputs(usage, stdout);
        return ENDED_WELL;
    }
    fprintf(stderr, "hexsum: unknown option %s\n%s", first, usage);
    return WRONG_USE;
}

int main(int count, char **arguments)
{
    enum ending ending = run(count > 0 ? arguments + 1 : arguments);

    /* A full disk shows only when the last of the output is written. */
    if (fflush(stdout) != 0 || ferror(stdout))
        return complain("standard output");
    return (int)ending;
}
