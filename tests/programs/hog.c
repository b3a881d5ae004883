/* A neighbour that wants memory: hog BYTES BYTES_PER_SECOND [huge]
 *
 * Each line on stdin is a round's half: an odd one makes it take BYTES, every page touched, no faster
 * than the rate (0: as fast as it can); an even one makes it give them back. Each is answered by a line
 * with the milliseconds that it took. The end of stdin ends it. */
#include "common.h"

#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

/* Touches bytes at p; sleeps while it is ahead of the rate. */
static void take(char *p, size_t bytes, double rate) {
    double start = now();
    for (size_t at = 0; at < bytes; at += PAGE) {
        p[at] = 1;
        double ahead = rate > 0 && at % MIB == 0 ? start + at / rate - now() : 0;
        if (ahead > 0) {
            struct timespec pause = {.tv_nsec = ahead * 1e9};
            nanosleep(&pause, NULL);
        }
    }
}

int main(int argc, char **argv) {
    REQUIRE(argc >= 3);
    size_t bytes = strtoull(argv[1], NULL, 10);
    double rate = strtod(argv[2], NULL);
    char line[16], *p = NULL;
    while (fgets(line, sizeof line, stdin)) {
        double start = now();
        if (p == NULL) {
            p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            REQUIRE(p != MAP_FAILED);
            if (argc > 3) REQUIRE(madvise(p, bytes, MADV_HUGEPAGE) == 0);
            take(p, bytes, rate);
        } else {
            REQUIRE(munmap(p, bytes) == 0);
            p = NULL;
        }
        printf("%.0f\n", (now() - start) * 1e3);
        fflush(stdout);
    }
    return 0;
}
