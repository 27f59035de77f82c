/* Greets somebody in one of a few languages. The interface is C, so that no C++ run time has to be shared. */
#ifndef GREETING_GREETING_H
#define GREETING_GREETING_H

#include <stddef.h>

#define GREETING_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

/* Write a greeting and a NUL into `text`, which has room for `size` bytes, cut where it does not fit.
 *
 * Returns how many bytes the whole greeting has, without the NUL; 0 for a language that it does not know. */
GREETING_API size_t greeting(const char *language, const char *name, char *text, size_t size);

#ifdef __cplusplus
}
#endif

#endif
