/* Touches pages that may answer with SIGBUS. */
#include "common.h"
#include <setjmp.h>

static __thread sigjmp_buf back;
static __thread void *volatile fault_address;

static void on_bus(int number, siginfo_t *info, void *context) {
    fault_address = info->si_addr;
    siglongjmp(back, 1);
}

static inline void catch_bus(void) {
    struct sigaction action = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};
    REQUIRE(sigaction(SIGBUS, &action, NULL) == 0);
}

/* Whether reading the word at p is answered with SIGBUS at that very address. */
static inline int is_bus(const char *p) {
    fault_address = NULL;
    if (sigsetjmp(back, 1) == 0) {
        *(volatile const uint64_t *)p;
        return 0;
    }
    REQUIRE(fault_address == p);
    return 1;
}
