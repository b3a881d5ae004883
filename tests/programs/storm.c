/* Fifty threads map, read, advise and unmap at once, and allocate in between. */
#include "common.h"

static const char *path;

static void *work(void *seed) {
    for (int round = 0; round < 6; round++) {
        size_t len;
        char *p = map_model(path, &len);
        void *block = malloc(2 * MIB + round);
        memset(block, 3, 2 * MIB);
        /* A few: each may cost a block, and three hundred mappings make many of them. */
        check_random(p, len, 5, (uintptr_t)seed * 100 + round);
        REQUIRE(madvise(p + MIB, 2 * MIB, MADV_WILLNEED) == 0);
        REQUIRE(mprotect(p, len, PROT_READ) == 0);
        REQUIRE(munmap(p + 2 * MIB, MIB) == 0);
        check(p + 3 * MIB, 3 * MIB, PAGE);
        free(block);
        REQUIRE(munmap(p, 2 * MIB) == 0);
        REQUIRE(munmap(p + 3 * MIB, len - 3 * MIB) == 0);
    }
    return NULL;
}

int main(int argc, char **argv) {
    REQUIRE(argc == 2);
    path = argv[1];
    pthread_t threads[50];
    for (uintptr_t i = 0; i < 50; i++) REQUIRE(pthread_create(&threads[i], NULL, work, (void *)i) == 0);
    for (int i = 0; i < 50; i++) REQUIRE(pthread_join(threads[i], NULL) == 0);
    return 0;
}
