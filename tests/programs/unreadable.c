/* unreadable MODEL START END: the drive cannot read the bytes from START to END. Threads that touch
 * those get SIGBUS, the others their bytes, all at once. */
#include "bus.h"

static char *model;
static size_t len, bad_start, bad_end;

static void *reader(void *seed) {
    uint64_t x = (uintptr_t)seed;
    for (int i = 0; i < 200; i++) {
        x = x * 6364136223846793005ull + 1442695040888963407ull;
        /* Every other touch near the unreadable pages. */
        size_t at = i % 2 ? (x >> 20) % (len / PAGE) * PAGE : bad_start - MIB / 2 + (x >> 20) % (MIB / PAGE) * PAGE;
        if (at >= bad_start && at < bad_end) {
            REQUIRE(is_bus(model + at + x % 500 * 8));
        } else {
            check(model + at, at, 512);
        }
    }
    return NULL;
}

int main(int argc, char **argv) {
    REQUIRE(argc == 4);
    bad_start = strtoul(argv[2], NULL, 0);
    bad_end = strtoul(argv[3], NULL, 0);
    int fd = open(argv[1], O_RDONLY | O_CLOEXEC);
    REQUIRE(fd >= 0);
    len = size_of(fd);
    model = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
    REQUIRE(model != MAP_FAILED && close(fd) == 0);
    catch_bus();
    pthread_t threads[8];
    for (uintptr_t i = 0; i < 8; i++) REQUIRE(pthread_create(&threads[i], NULL, reader, (void *)(i + 1)) == 0);
    for (int i = 0; i < 8; i++) REQUIRE(pthread_join(threads[i], NULL) == 0);
    for (size_t at = 0; at + 8 <= len; at += PAGE) {
        if (at >= bad_start && at < bad_end) REQUIRE(is_bus(model + at));
        else check(model + at, at, 8);
    }
    REQUIRE(munmap(model, len) == 0);
    return 0;
}
