/* stdio that faults while it holds its lock, and a pager that logs meanwhile. */
#include "common.h"

static char *model;
static size_t model_len;

static void *printer(void *out) {
    for (unsigned i = 0; i < 200; i++) {
        size_t at = (i * 7919ul) % (model_len / PAGE - 1) * PAGE;
        /* %.*s reads the view inside of printf, under the stream's lock. */
        fprintf(out, "%.*s\n", 64, model + at);
        fprintf(stderr, "%.*s\n", 3, model + at);
        REQUIRE(fwrite(model + at, 1, 3000, out) == 3000);
    }
    return NULL;
}

int main(int argc, char **argv) {
    REQUIRE(argc == 2);
    model = map_model(argv[1], &model_len);
    FILE *out = fopen("/dev/null", "w");
    REQUIRE(out);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) REQUIRE(pthread_create(&threads[i], NULL, printer, out) == 0);
    for (int i = 0; i < 4; i++) REQUIRE(pthread_join(threads[i], NULL) == 0);
    REQUIRE(fclose(out) == 0);
    return 0;
}
