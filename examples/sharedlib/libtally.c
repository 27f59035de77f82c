#include "tally.h"

#include <string.h>

const char tally_separators[8] = " \t\n\v\f\r";

void tally_start(struct tally *tally)
{
	memset(tally, 0, sizeof *tally);
}

void tally_add(struct tally *tally, const char *text, size_t size)
{
	for (size_t at = 0; at < size; at++) {
		int separates = text[at] != '\0' && strchr(tally_separators, text[at]) != NULL;
		tally->lines += text[at] == '\n';
		tally->words += !separates && !tally->inside;
		tally->inside = !separates;
	}
	tally->bytes += size;
}
