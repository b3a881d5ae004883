/* Maps a model, reads all of it, and then does what its input says, a line at a time; answers each
   line with "done". */
#include "common.h"

static char *model;
static size_t model_len;

int main(int argc, char **argv) {
    REQUIRE(argc == 2);
    model = map_model(argv[1], &model_len);
    check_pages(model, 0, model_len);
    char line[32];
    printf("ready %d\n", getpid());
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        if (strcmp(line, "read\n") == 0) check_pages(model, 0, model_len);
        if (strcmp(line, "exit\n") == 0) exit(3);
        if (strcmp(line, "_exit\n") == 0) _exit(4);
        if (strcmp(line, "fork\n") == 0) {
            /* Two children that end as processes do, and one that does not. */
            for (int way = 0; way < 3; way++) {
                pid_t child = way == 2 ? _Fork() : fork();
                REQUIRE(child >= 0);
                if (child == 0) {
                    if (way == 0) check_pages(model, 0, model_len);
                    if (way == 0) exit(0);
                    _exit(0);
                }
                reap(child);
            }
        }
        if (strcmp(line, "exec\n") == 0) {
            execl(argv[0], argv[0], argv[1], NULL);
            _exit(5);
        }
        if (strcmp(line, "unmap\n") == 0) REQUIRE(munmap(model, model_len) == 0);
        printf("done\n");
        fflush(stdout);
    }
    return 0;
}
