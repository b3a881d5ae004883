/* The program reads its model through descriptors as well: 1 MiB each by read, pread and fread. */
#include "common.h"

int main(int argc, char **argv) {
    REQUIRE(argc == 2);
    int fd = open(argv[1], O_RDONLY);
    size_t len = size_of(fd);
    char *p = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
    REQUIRE(p != MAP_FAILED);
    char *buffer = malloc(MIB);
    errno = 12;
    REQUIRE(read(fd, buffer, MIB) == (ssize_t)MIB);
    check(buffer, 0, MIB);
    REQUIRE(pread(fd, buffer, MIB, 7 * MIB) == (ssize_t)MIB);
    check(buffer, 7 * MIB, MIB);
    FILE *file = fdopen(fd, "r");
    REQUIRE(file && fseek(file, 3 * MIB, SEEK_SET) == 0);
    REQUIRE(fread(buffer, 1024, 1024, file) == 1024);
    check(buffer, 3 * MIB, MIB);
    REQUIRE(errno == 12);
    REQUIRE(pread(fd, buffer, 10, len) == 0);
    REQUIRE(pread(fd, buffer, 10, -1) == -1 && errno == EINVAL);
    REQUIRE(read(fd, nowhere, 100) == -1 && errno == EFAULT);
    check_random(p, len, 50, 4);
    REQUIRE(fclose(file) == 0 && munmap(p, len) == 0);
    return 0;
}
