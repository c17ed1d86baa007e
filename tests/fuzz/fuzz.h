/* fuzz.h - the one function of a fuzz target. libFuzzer calls it with its inventions, replay.c with
 * the kept corpus. */
#ifndef FCT_TESTS_FUZZ_FUZZ_H
#define FCT_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#endif
