/* Two mappings of one file and one of an extent of it; each lives on when the others go. */
#include "common.h"

int main(int argc, char **argv) {
    REQUIRE(argc == 2);
    size_t len;
    char *a = map_model(argv[1], &len), *b = map_model(argv[1], &len);
    int fd = open(argv[1], O_RDONLY);
    char *c = mmap(NULL, 16 * MIB, PROT_READ, MAP_PRIVATE, fd, 8 * MIB);
    REQUIRE(c != MAP_FAILED && close(fd) == 0 && a != b);
    check_random(a, len, 300, 1);
    check_random(b, len, 300, 2);
    check_pages(c, 8 * MIB, 16 * MIB);
    REQUIRE(munmap(a, len) == 0);
    check_pages(b, 0, len);
    check_pages(c, 8 * MIB, 16 * MIB);
    REQUIRE(munmap(b, len) == 0);
    check_pages(c, 8 * MIB, 16 * MIB);
    REQUIRE(munmap(c, 16 * MIB) == 0);
    return 0;
}
