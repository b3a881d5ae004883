/* cycles FILE COUNT: touches each 2 MiB of FILE once in a cycle, COUNT cycles, always in the same
 * order, which is not that of the file. */
#include "common.h"

int main(int argc, char **argv) {
    enum { BLOCK = 2 << 20 };
    REQUIRE(argc == 3);
    int fd = open(argv[1], O_RDONLY);
    struct stat stat;
    REQUIRE(fd >= 0 && fstat(fd, &stat) == 0);
    char *base = mmap(NULL, stat.st_size, PROT_READ, MAP_SHARED, fd, 0);
    REQUIRE(base != MAP_FAILED);
    close(fd);
    size_t blocks = stat.st_size / BLOCK;
    /* A stride that meets every block, as long as their number is no multiple of 7. */
    REQUIRE(blocks % 7 != 0);
    unsigned sum = 0;
    for (int cycle = 0; cycle < atoi(argv[2]); cycle++)
        for (size_t step = 0; step < blocks; step++)
            sum += *(volatile unsigned char *)(base + step * 7 % blocks * BLOCK);
    REQUIRE(sum == 0);
    REQUIRE(munmap(base, stat.st_size) == 0);
    return 0;
}
