/* Eight threads read every page of a model at random, then in order, the file's last bytes included. */
#include "common.h"

static char *model;
static size_t len;

static void *reader(void *seed) {
    check_random(model, len, 400, (uintptr_t)seed);
    check_pages(model, 0, len);
    return NULL;
}

int main(int argc, char **argv) {
    REQUIRE(argc == 2);
    model = map_model(argv[1], &len);
    pthread_t threads[8];
    for (uintptr_t i = 0; i < 8; i++) REQUIRE(pthread_create(&threads[i], NULL, reader, (void *)i) == 0);
    for (int i = 0; i < 8; i++) REQUIRE(pthread_join(threads[i], NULL) == 0);
    check(model, 0, len);
    REQUIRE(munmap(model, len) == 0);
    return 0;
}
