/* Counts lines, words and bytes of text that comes piece by piece. */
#ifndef TALLY_H
#define TALLY_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct tally {
	unsigned long lines;
	unsigned long words;
	unsigned long bytes;
	int inside; /* whether the last piece ended within a word */
};

/* What separates words, ended by a NUL. */
extern const char tally_separators[8];

void tally_start(struct tally *tally);
void tally_add(struct tally *tally, const char *text, size_t size);

#ifdef __cplusplus
}
#endif
#endif
