/* sweeps MODEL COUNT: two threads read every word of a model COUNT times, in turns of 4 MiB. */
#include "common.h"

enum { THREADS = 2 };
static const size_t turn = 4 * MIB;

static char *model;
static size_t len;
static unsigned long cycles;
static pthread_barrier_t barrier;

static void *reader(void *number) {
    for (unsigned long cycle = 0; cycle < cycles; cycle++) {
        for (size_t start = 0; start < len; start += turn) {
            size_t at = start + turn / THREADS * (uintptr_t)number;
            size_t end = at + turn / THREADS < len ? at + turn / THREADS : len;
            if (at < end) check(model + at, at, end - at);
            pthread_barrier_wait(&barrier);
        }
    }
    return NULL;
}

int main(int argc, char **argv) {
    REQUIRE(argc == 3);
    cycles = strtoul(argv[2], NULL, 0);
    model = map_model(argv[1], &len);
    REQUIRE(pthread_barrier_init(&barrier, NULL, THREADS) == 0);
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++) REQUIRE(pthread_create(&threads[i], NULL, reader, (void *)i) == 0);
    for (int i = 0; i < THREADS; i++) REQUIRE(pthread_join(threads[i], NULL) == 0);
    REQUIRE(munmap(model, len) == 0);
    return 0;
}
