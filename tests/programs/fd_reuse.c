/* The descriptor is closed right after mmap and its number is given to another file. */
#include "common.h"

int main(int argc, char **argv) {
    REQUIRE(argc == 2);
    for (int round = 0; round < 10; round++) {
        int fd = open(argv[1], O_RDONLY);
        size_t len = size_of(fd);
        char *p = mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0);
        REQUIRE(p != MAP_FAILED && close(fd) == 0);
        int other = memfd_create("other", 0);
        REQUIRE(other == fd);
        REQUIRE(write(other, "not the model", 13) == 13);
        char buffer[13];
        REQUIRE(pread(other, buffer, 13, 0) == 13 && memcmp(buffer, "not the model", 13) == 0);
        REQUIRE(lseek(other, 4, SEEK_SET) == 4 && read(other, buffer, 13) == 9);
        REQUIRE(ftruncate(other, 2 * MIB) == 0);
        char *q = mmap(NULL, 2 * MIB, PROT_READ, MAP_SHARED, other, 0);
        REQUIRE(q != MAP_FAILED && memcmp(q, "not the model", 13) == 0);
        check_pages(p, 0, len);
        /* Still the very same memory: a write shows at once. */
        REQUIRE(pwrite(other, "XYZ", 3, 0) == 3 && memcmp(q, "XYZ", 3) == 0);
        REQUIRE(munmap(q, 2 * MIB) == 0 && close(other) == 0 && munmap(p, len) == 0);
    }
    /* No descriptor of anybody is left over. */
    int low = open("/dev/null", O_RDONLY);
    REQUIRE(low == 3);
    return 0;
}
