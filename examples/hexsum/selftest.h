#ifndef HEXSUM_SELFTEST_H
#define HEXSUM_SELFTEST_H

/* Print a line for each known answer, and `ok` when all are right. Returns how many are wrong. */
int self_test(void);

#endif
