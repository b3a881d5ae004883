/* The library that dlopen_advise opens: its constructor runs under the loader's lock. */
#include "common.h"

extern void *first_calls(void *);

__attribute__((constructor)) static void on_load(void) {
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, first_calls, NULL) == 0);
    REQUIRE(pthread_join(thread, NULL) == 0);
    REQUIRE(madvise((void *)((uintptr_t)&thread & ~(PAGE - 1)), PAGE, MADV_NORMAL) == 0);
}
