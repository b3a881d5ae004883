/* mlock, advice and flushes over a view: no wait, no effect on the bytes, the kernel's answers. */
#include "common.h"

static int refused_for_limits(int result) {
    return result == 0 || errno == ENOMEM || errno == EPERM || errno == EAGAIN;
}

static long locked_kib(void) {
    char line[200];
    long kib = -1;
    FILE *status = fopen("/proc/self/status", "r");
    REQUIRE(status);
    while (fgets(line, sizeof line, status)) sscanf(line, "VmLck: %ld", &kib);
    fclose(status);
    return kib;
}

int main(int argc, char **argv) {
    REQUIRE(argc == 2);
    int fd = open(argv[1], O_RDONLY);
    size_t len = size_of(fd);
    REQUIRE(posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL) == 0);
    char *p = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
    REQUIRE(p != MAP_FAILED);
    errno = 55;
    REQUIRE(posix_fadvise(fd, 0, len, POSIX_FADV_WILLNEED) == 0);
    REQUIRE(posix_fadvise(fd, 0, 0, 99) == EINVAL);
    REQUIRE(posix_madvise(p, len, POSIX_MADV_WILLNEED) == 0);
    REQUIRE(posix_madvise(p, len, POSIX_MADV_DONTNEED) == 0);
    REQUIRE(posix_madvise(p, len, 99) == EINVAL);
    REQUIRE(posix_madvise(p + 1, PAGE, POSIX_MADV_WILLNEED) == EINVAL);
    REQUIRE(errno == 55);
    REQUIRE(madvise(p, len, MADV_RANDOM) == 0 && madvise(p, len, MADV_WILLNEED) == 0);
    REQUIRE(madvise(p + MIB, 100, MADV_WILLNEED) == 0 && madvise(p + 3, 0, MADV_NORMAL) == -1);
    REQUIRE(errno == EINVAL);
    REQUIRE(madvise(p + 3, PAGE, MADV_NORMAL) == -1 && errno == EINVAL);
    REQUIRE(madvise(p, PAGE, 4242) == -1 && errno == EINVAL);
    REQUIRE(madvise(p, len, MADV_DONTNEED) == 0);
    REQUIRE(madvise(p, len, MADV_DONTDUMP) == 0);
    check_pages(p, 0, len);
    /* As llama.cpp locks: a little more each time. */
    for (size_t locked = MIB; locked <= 6 * MIB; locked += MIB) REQUIRE(refused_for_limits(mlock(p, locked)));
    REQUIRE(refused_for_limits(mlock2(p + 5, 100, MLOCK_ONFAULT)));
    REQUIRE(mlock2(p, PAGE, 0x80) == -1 && errno == EINVAL);
    if (getenv("GGPAGER_FILL")) {
        /* A view: success whatever the limit, and nothing is really locked or filled. */
        REQUIRE(mlock(p, len) == 0 && locked_kib() == 0);
    }
    REQUIRE(munlock(p, 6 * MIB) == 0);
    REQUIRE(msync(p, len, MS_SYNC) == 0 && msync(p, len, MS_ASYNC) == 0);
    REQUIRE(msync(p + 1, len - PAGE, MS_SYNC) == -1 && errno == EINVAL);
    REQUIRE(msync(p, len, MS_SYNC | MS_ASYNC) == -1 && errno == EINVAL);
    check_pages(p, 0, len);
    REQUIRE(munmap(p, len) == 0 && close(fd) == 0);
    return 0;
}
