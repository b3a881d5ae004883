/* Threads are cancelled while they wait in hooked calls: unwinding passes through the hooks. */
#include "common.h"

static int pipes[2], full[2];
static atomic_int ready, cleaned;
static char *model;

static void clean(void *unused) { cleaned++; }

static void *blocked_read(void *unused) {
    char byte;
    pthread_cleanup_push(clean, NULL);
    ready++;
    read(pipes[0], &byte, 1);
    pthread_cleanup_pop(0);
    return NULL;
}

static void *blocked_write(void *unused) {
    static char zeros[8 * MIB];
    pthread_cleanup_push(clean, NULL);
    ready++;
    write(full[1], zeros, sizeof zeros);
    pthread_cleanup_pop(0);
    return NULL;
}

static void *mapper(void *path) {
    /* A cancellation that is pending all the while must not strike inside of mmap or munmap. */
    int fd = open(path, O_RDONLY);
    size_t len = size_of(fd);
    pthread_cancel(pthread_self());
    char *p = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
    REQUIRE(p != MAP_FAILED);
    check(p + MIB, MIB, PAGE);
    REQUIRE(munmap(p, len) == 0);
    ready += 100;
    pthread_testcancel();
    return NULL;
}

int main(int argc, char **argv) {
    REQUIRE(argc == 2 && pipe(pipes) == 0 && pipe(full) == 0);
    size_t len;
    model = map_model(argv[1], &len);
    check(model + PAGE, PAGE, PAGE);
    void *(*const ways[])(void *) = {blocked_read, blocked_write, mapper};
    for (int i = 0; i < 3; i++) {
        pthread_t thread;
        void *result;
        REQUIRE(pthread_create(&thread, NULL, ways[i], argv[1]) == 0);
        while (ready <= i && i < 2) sched_yield();
        if (i < 2) REQUIRE(pthread_cancel(thread) == 0);
        REQUIRE(pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
    }
    REQUIRE(cleaned == 2 && ready == 102);
    return 0;
}
