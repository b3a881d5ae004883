/* mremap, mprotect and MAP_FIXED on a view: it becomes an ordinary mapping with the same bytes. */
#include "common.h"

static char *map_private(const char *path, size_t *len) {
    int fd = open(path, O_RDONLY);
    *len = size_of(fd);
    char *p = mmap(NULL, *len, PROT_READ, MAP_PRIVATE, fd, 0);
    REQUIRE(p != MAP_FAILED && close(fd) == 0);
    return p;
}

int main(int argc, char **argv) {
    REQUIRE(argc == 2);
    size_t len;
    char *p = map_model(argv[1], &len);
    check_random(p, len, 20, 1);
    /* Shrink, then move with growth, then move to a place of our choice. */
    p = mremap(p, len, 32 * MIB, 0);
    REQUIRE(p != MAP_FAILED);
    check_pages(p, 0, 32 * MIB);
    p = mremap(p, 32 * MIB, 40 * MIB, MREMAP_MAYMOVE);
    REQUIRE(p != MAP_FAILED);
    check_pages(p, 0, 40 * MIB);
    char *place = mmap(NULL, 40 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(mremap(p, 40 * MIB, 40 * MIB, MREMAP_MAYMOVE | MREMAP_FIXED, place) == place);
    check_pages(place, 0, 40 * MIB);
    REQUIRE(munmap(place, 40 * MIB) == 0);

    /* Moving something onto a view. */
    p = map_model(argv[1], &len);
    char *other = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(other, 7, MIB);
    REQUIRE(mremap(other, MIB, MIB, MREMAP_MAYMOVE | MREMAP_FIXED, p + 4 * MIB) == p + 4 * MIB);
    REQUIRE(p[4 * MIB] == 7 && p[5 * MIB - 1] == 7);
    check_pages(p, 0, 4 * MIB);
    check_pages(p + 5 * MIB, 5 * MIB, len - 5 * MIB);
    REQUIRE(munmap(p, len) == 0);

    /* MAP_FIXED over the middle, with unrounded length. */
    p = map_model(argv[1], &len);
    check_random(p, len, 20, 2);
    errno = 33;
    char *fixed = mmap(p + 8 * MIB, MIB - 100, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    REQUIRE(fixed == p + 8 * MIB && errno == 33 && fixed[0] == 0 && fixed[MIB - 1] == 0);
    fixed[5] = 9;
    check_pages(p, 0, 8 * MIB);
    check_pages(p + 9 * MIB, 9 * MIB, len - 9 * MIB);
    REQUIRE(fixed[5] == 9);
    /* It is the program's memory now: advice reaches the kernel. */
    REQUIRE(madvise(fixed, PAGE, MADV_DONTNEED) == 0 && fixed[5] == 0);
    REQUIRE(munmap(p, len) == 0);

    /* Protection: readable again is nothing, writable is a private copy, none is a fault. */
    p = map_private(argv[1], &len);
    REQUIRE(mprotect(p, len, PROT_READ) == 0);
    REQUIRE(mprotect(p + 1, PAGE, PROT_READ) == -1 && errno == EINVAL);
    check_random(p, len, 20, 3);
    REQUIRE(mprotect(p + 12 * MIB, MIB, PROT_READ | PROT_WRITE) == 0);
    check_pages(p + 12 * MIB, 12 * MIB, MIB);
    p[12 * MIB + 5] ^= 1;
    check(p + 12 * MIB + 8, 12 * MIB + 8, MIB - 8);
    check_pages(p, 0, 12 * MIB);
    check_pages(p + 13 * MIB, 13 * MIB, len - 13 * MIB);
    REQUIRE(mprotect(p, MIB, PROT_NONE) == 0);
    int fd[2];
    REQUIRE(pipe(fd) == 0 && write(fd[1], p, 10) == -1 && errno == EFAULT);
    REQUIRE(munmap(p, len) == 0);
    return 0;
}
