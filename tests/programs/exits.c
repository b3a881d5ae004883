/* Every way to end, with threads still faulting. The status says which way it was. */
#include "common.h"

static char *model;
static size_t model_len;

static void *reader(void *seed) {
    for (uint64_t i = 0;; i++) check_random(model, model_len, 50, (uintptr_t)seed * 1000 + i);
    return NULL;
}

static void *ender(void *unused) {
    exit(43);
}

static void last(void) {
    /* Exit handlers of the program may still use the model. */
    check_random(model, model_len, 50, 5);
    REQUIRE(munmap(model, MIB) == 0);
    check(model + MIB, MIB, PAGE);
}

int main(int argc, char **argv) {
    REQUIRE(argc == 3);
    model = map_model(argv[1], &model_len);
    check_random(model, model_len, 100, 1);
    pthread_t threads[3];
    const char *way = argv[2];
    if (strcmp(way, "return-quiet") == 0) return 40;
    for (uintptr_t i = 0; i < 2; i++) REQUIRE(pthread_create(&threads[i], NULL, reader, (void *)i) == 0);
    if (strcmp(way, "_exit") == 0) _exit(41);
    if (strcmp(way, "quick_exit") == 0) quick_exit(42);
    if (strcmp(way, "thread") == 0) {
        REQUIRE(pthread_create(&threads[2], NULL, ender, NULL) == 0);
        pthread_exit(NULL);
    }
    if (strcmp(way, "abort") == 0) {
        signal(SIGABRT, SIG_DFL);
        abort();
    }
    return 44;
}

/* Only for the way where no thread reads the unmapped part. */
__attribute__((destructor)) static void at_end(void) {
    if (model && getenv("UNMAP_AT_END")) last();
}
