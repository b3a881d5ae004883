/* Threads with large thread-local storage, whose destructors allocate, read the view and unmap. */
#include "common.h"

static __thread char large[3 * MIB];
static pthread_key_t key;
static char *model;
static size_t model_len;
static atomic_int destroyed;

static void at_thread_end(void *value) {
    char *more = malloc(300000);
    REQUIRE(more);
    memset(more, 1, 300000);
    check_random(model, model_len, 20, (uintptr_t)value);
    free(more);
    free(value);
    REQUIRE(munmap(mmap(NULL, 2 * MIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 2 * MIB) == 0);
    destroyed++;
}

static void *work(void *seed) {
    REQUIRE(pthread_setspecific(key, malloc(100000)) == 0);
    large[(uintptr_t)seed * PAGE] = 1;
    check_random(model, model_len, 40, (uintptr_t)seed);
    return NULL;
}

int main(int argc, char **argv) {
    REQUIRE(argc == 2 && pthread_key_create(&key, at_thread_end) == 0);
    model = map_model(argv[1], &model_len);
    for (int round = 0; round < 4; round++) {
        pthread_t threads[8];
        for (uintptr_t i = 0; i < 8; i++) REQUIRE(pthread_create(&threads[i], NULL, work, (void *)i) == 0);
        for (int i = 0; i < 8; i++) REQUIRE(pthread_join(threads[i], NULL) == 0);
    }
    REQUIRE(destroyed == 32);
    return 0;
}
