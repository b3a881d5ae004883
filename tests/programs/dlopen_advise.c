/* A library's constructor waits, inside dlopen, for a thread that calls every hook for the first
 * time: a hook that looks its symbol up lazily waits for the loader's lock, which dlopen holds. */
#include "common.h"
#include <dlfcn.h>

static atomic_int rounds;

void *first_calls(void *unused) {
    char *p = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(p != MAP_FAILED);
    REQUIRE(madvise(p, PAGE, MADV_NORMAL) == 0);
    REQUIRE(posix_madvise(p, PAGE, POSIX_MADV_NORMAL) == 0);
    REQUIRE(mlock(p, PAGE) == 0 && munlock(p, PAGE) == 0);
    REQUIRE(mprotect(p, PAGE, PROT_READ) == 0);
    REQUIRE(msync(p, PAGE, MS_ASYNC) == 0);
    int pipes[2];
    REQUIRE(pipe(pipes) == 0);
    REQUIRE(write(pipes[1], p, 8) == 8 && read(pipes[0], p + PAGE, 8) == 8);
    struct iovec part = {p, 8};
    REQUIRE(writev(pipes[1], &part, 1) == 8);
    FILE *null = fopen("/dev/null", "r+");
    REQUIRE(null && fwrite(p, 1, 8, null) == 8 && fread(p + PAGE, 1, 8, null) == 0);
    int fd = open("/proc/self/exe", O_RDONLY);
    REQUIRE(pread(fd, p + PAGE, 8, 0) == 8);
    posix_fadvise(fd, 0, 0, POSIX_FADV_NORMAL);
    REQUIRE(send(fd, p, 1, 0) == -1 && errno == ENOTSOCK);
    REQUIRE(sendto(fd, p, 1, 0, NULL, 0) == -1 && errno == ENOTSOCK);
    struct msghdr message = {0};
    REQUIRE(sendmsg(fd, &message, 0) == -1 && errno == ENOTSOCK);
    REQUIRE(munmap(p, 4 * PAGE) == 0);
    rounds++;
    return NULL;
}

int main(int argc, char **argv) {
    REQUIRE(argc == 3);
    void *plugin = dlopen(argv[2], RTLD_NOW);
    if (!plugin) dprintf(2, "%s\n", dlerror());
    REQUIRE(plugin && rounds == 1);
    size_t len;
    char *p = map_model(argv[1], &len);
    check_pages(p, 0, len);
    return 0;
}
