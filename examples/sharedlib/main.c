#include "tally.h"

#include <stdio.h>
#include <string.h>

static const char usage[] =
	"Usage: tally [--lines | --words | --bytes] [--text TEXT | FILE]\n"
	"  -l, --lines      how many lines\n"
	"  -w, --words      how many words\n"
	"  -b, --bytes      how many bytes\n"
	"  -t, --text TEXT  count this text, not a file\n"
	"  -h, --help       show this\n"
	"Without a file it reads standard input; without an option it prints all three.\n";

static int is(const char *argument, const char *brief, const char *whole)
{
	return strcmp(argument, brief) == 0 || strcmp(argument, whole) == 0;
}

static int read_all(struct tally *tally, FILE *file)
{
	char piece[4096];
	size_t size;
	while ((size = fread(piece, 1, sizeof piece, file)) > 0)
		tally_add(tally, piece, size);
	return ferror(file) ? -1 : 0;
}

int main(int count, char **arguments)
{
	struct tally tally;
	const char *only = "", *text = NULL, *name = NULL;
	for (int at = 1; at < count; at++) {
		const char *argument = arguments[at];
		if (is(argument, "-h", "--help")) {
			fputs(usage, stdout);
			return 0;
		}
		if (is(argument, "-l", "--lines") || is(argument, "-w", "--words") || is(argument, "-b", "--bytes")) {
			only = argument + strspn(argument, "-");
		} else if (is(argument, "-t", "--text") && at + 1 < count) {
			text = arguments[++at];
		} else if (argument[0] == '-' || name != NULL) {
			fputs(usage, stderr);
			return 2;
		} else {
			name = argument;
		}
	}
	tally_start(&tally);
	if (text != NULL) {
		tally_add(&tally, text, strlen(text));
	} else {
		FILE *file = name != NULL ? fopen(name, "rb") : stdin;
		if (file == NULL || read_all(&tally, file) != 0) {
			perror(name != NULL ? name : "standard input");
			return 1;
		}
	}
	if (only[0] == '\0')
		printf("%lu %lu %lu\n", tally.lines, tally.words, tally.bytes);
	else
		printf("%lu\n", only[0] == 'l' ? tally.lines : only[0] == 'w' ? tally.words : tally.bytes);
	return 0;
}
