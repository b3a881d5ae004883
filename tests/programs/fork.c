/* Children of every kind while threads of the parent fault: no stale byte, no hang, parent goes on. */
#include "common.h"
#include <spawn.h>

extern char **environ;
static char *model;
static size_t model_len;
static atomic_int stop;

static void *reader(void *seed) {
    for (uint64_t i = 0; !stop; i++) {
        free(malloc(100 + i % 100000));
        check_random(model, model_len, 50, (uintptr_t)seed * 1000 + i);
    }
    return NULL;
}

static void plain_child(const char *path, int round) {
    /* What the parent mapped is there with the right bytes, and every hook still works. */
    check_random(model, model_len, 200, round);
    if (round % 4 == 0) check_pages(model, 0, model_len);
    free(malloc(1 << 20));
    int null = open("/dev/null", O_WRONLY);
    REQUIRE(write(null, model + 100, 5000) == 5000);
    REQUIRE(madvise(model, PAGE, MADV_NORMAL) == 0);
    REQUIRE(munmap(model, 10 * PAGE) == 0);
    check(model + 10 * PAGE, 10 * PAGE, PAGE);
    size_t len;
    char *again = map_model(path, &len);
    check_random(again, len, 100, round);
    REQUIRE(munmap(model + 10 * PAGE, model_len - 10 * PAGE) == 0);
    if (round % 2) exit(0);
    _exit(0);
}

int main(int argc, char **argv) {
    REQUIRE(argc == 2);
    model = map_model(argv[1], &model_len);
    pthread_t threads[3];
    for (uintptr_t i = 0; i < 3; i++) REQUIRE(pthread_create(&threads[i], NULL, reader, (void *)i) == 0);
    for (int round = 0; round < 12; round++) {
        pid_t child = fork();
        REQUIRE(child >= 0);
        if (child == 0) plain_child(argv[1], round);
        reap(child);
        check_random(model, model_len, 20, round);

        child = fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            execl("/bin/true", "true", NULL);
            _exit(1);
        }
        reap(child);

        child = vfork();
        REQUIRE(child >= 0);
        if (child == 0) {
            execl("/bin/true", "true", NULL);
            _exit(1);
        }
        reap(child);

        char *arguments[] = {"true", NULL};
        REQUIRE(posix_spawn(&child, "/bin/true", NULL, NULL, arguments, environ) == 0);
        reap(child);

        /* A child without fork handlers: nothing of ours may wait for threads that are not there. */
        child = _Fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            char buffer[8];
            int fd = open(argv[1], O_RDONLY);
            REQUIRE(pread(fd, buffer, 8, 64) == 8);
            check(buffer, 64, 8);
            char *p = mmap(NULL, MIB, PROT_READ, MAP_SHARED, fd, 0);
            REQUIRE(p != MAP_FAILED);
            check_pages(p, 0, MIB);
            REQUIRE(munmap(p, MIB) == 0);
            _exit(0);
        }
        reap(child);
    }
    stop = 1;
    for (int i = 0; i < 3; i++) REQUIRE(pthread_join(threads[i], NULL) == 0);
    check_pages(model, 0, model_len);
    return 0;
}
