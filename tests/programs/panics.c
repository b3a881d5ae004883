/* Calls everything that is hooked, on a view and elsewhere, while some hooks panic; then reads on. */
#include "common.h"

static char *model;
static size_t len;

/* Out of the model's first half: the second is read while this runs. */
static void every_hook(int fd, int sink, const char *scratch_path) {
    static char buffer[MIB];
    int pair[2], out = open(scratch_path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    REQUIRE(out >= 0 && pipe(pair) == 0);
    struct iovec part = {model + 3 * MIB, 4096};
    mprotect(model + MIB, MIB, PROT_READ);
    REQUIRE(madvise(model, MIB, MADV_WILLNEED) == 0);
    REQUIRE(madvise(model, len, MADV_DONTNEED) == 0);
    REQUIRE(posix_madvise(model, MIB, POSIX_MADV_WILLNEED) == 0);
    REQUIRE(posix_fadvise(fd, 0, len, POSIX_FADV_WILLNEED) == 0);
    mlock(model, MIB);
    mlock2(model, MIB, MLOCK_ONFAULT);
    munlock(model, MIB);
    REQUIRE(msync(model, MIB, MS_ASYNC) == 0);
    REQUIRE(read(fd, buffer, PAGE) == (ssize_t)PAGE);
    check(buffer, lseek(fd, 0, SEEK_CUR) - PAGE, PAGE);
    REQUIRE(pread(fd, buffer, MIB, 5 * MIB) == (ssize_t)MIB);
    check(buffer, 5 * MIB, MIB);
    REQUIRE(write(sink, model + 7 * MIB, MIB) == (ssize_t)MIB);
    REQUIRE(pwrite(out, model + 9 * MIB, 4096, 0) == 4096);
    REQUIRE(writev(pair[1], &part, 1) == 4096 && read(pair[0], buffer, 4096) == 4096);
    check(buffer, 3 * MIB, 4096);
    close(out);
    close(pair[0]);
    close(pair[1]);
}

static void *reader(void *seed) {
    for (int pass = 0; pass < 2; pass++) check_pages(model + 24 * MIB, 24 * MIB, len - 24 * MIB);
    check_random(model, 3 * MIB, 200, (uintptr_t)seed);
    return NULL;
}

int main(int argc, char **argv) {
    enum { STRANGERS = 24 };
    char *strangers[STRANGERS];
    REQUIRE(argc == 3);
    model = map_model(argv[1], &len);
    check_pages(model, 0, len);
    int fd = open(argv[1], O_RDONLY | O_CLOEXEC), sink = open("/dev/null", O_WRONLY | O_CLOEXEC);
    pthread_t threads[4];
    for (uintptr_t i = 0; i < 4; i++) REQUIRE(pthread_create(&threads[i], NULL, reader, (void *)i) == 0);
    for (int i = 0; i < 3; i++) every_hook(fd, sink, argv[2]);
    /* Whatever comes to the addresses of unmapped parts keeps its content while blocks are evicted. */
    REQUIRE(munmap(model + 10 * MIB, 10 * MIB) == 0);
    for (int i = 0; i < STRANGERS; i++) {
        /* The first ones into the hole, if there is one. */
        char *hint = i < 5 ? model + 10 * MIB + i * 2 * MIB : NULL;
        strangers[i] = mmap(hint, 2 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        REQUIRE(strangers[i] != MAP_FAILED);
        memset(strangers[i], 7 + i, 2 * MIB);
    }
    for (int i = 0; i < 4; i++) REQUIRE(pthread_join(threads[i], NULL) == 0);
    check_pages(model, 0, 10 * MIB);
    check_pages(model + 20 * MIB, 20 * MIB, len - 20 * MIB);
    for (int i = 0; i < STRANGERS; i++) {
        for (size_t at = 0; at < 2 * MIB; at++) REQUIRE(strangers[i][at] == 7 + i);
        REQUIRE(munmap(strangers[i], 2 * MIB) == 0);
    }
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        check_pages(model, 0, 8 * MIB);
        _exit(0);
    }
    reap(child);
    REQUIRE(munmap(model, 10 * MIB) == 0 && munmap(model + 20 * MIB, len - 20 * MIB) == 0);
    return 0;
}
