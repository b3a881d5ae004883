/* A timer interrupts threads that fault; its handler reads the view and calls hooks itself. */
#include "common.h"
#include <sys/time.h>

static char *model;
static size_t model_len;
static int sink;
static atomic_ulong handled;

/* One signal in a millisecond from now. Not periodic: a handler that faults may take longer than any
 * period, and then nothing else would ever run. */
static void again(void) {
    struct itimerval once = {{0, 0}, {0, 1000}};
    REQUIRE(setitimer(ITIMER_REAL, &once, NULL) == 0);
}

static void on_alarm(int number) {
    int saved = errno;
    uint64_t seed = handled++ * 7919;
    check_random(model, model_len, 2, seed);
    size_t at = seed % (model_len / PAGE - 2) * PAGE;
    REQUIRE(write(sink, model + at, 4096) == 4096);
    if (seed / 7919 < 400) again();
    errno = saved;
}

static void *reader(void *seed) {
    /* Signals in faults are what counts; more reads than they take would only keep the drive busy. */
    for (int i = 0; i < 10 || handled < 100; i++) {
        check_random(model, model_len, 100, (uintptr_t)seed * 77 + i);
        char *other = mmap(NULL, MIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        REQUIRE(other != MAP_FAILED && munmap(other, MIB) == 0);
    }
    return NULL;
}

int main(int argc, char **argv) {
    REQUIRE(argc == 2);
    sink = open("/dev/null", O_WRONLY);
    model = map_model(argv[1], &model_len);
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    REQUIRE(sigaction(SIGALRM, &action, NULL) == 0);
    again();
    pthread_t threads[4];
    for (uintptr_t i = 0; i < 4; i++) REQUIRE(pthread_create(&threads[i], NULL, reader, (void *)i) == 0);
    for (int i = 0; i < 4; i++) REQUIRE(pthread_join(threads[i], NULL) == 0);
    /* Mapping and unmapping under fire. */
    for (int i = 0; i < 10; i++) {
        size_t len;
        char *p = map_model(argv[1], &len);
        check_random(p, len, 20, i);
        REQUIRE(munmap(p, len) == 0);
    }
    struct itimerval never = {{0, 0}, {0, 0}};
    REQUIRE(setitimer(ITIMER_REAL, &never, NULL) == 0);
    return 0;
}
