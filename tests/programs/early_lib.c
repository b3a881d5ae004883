/* Preloaded behind the pager, so its constructor runs before the pager's. */
#include "common.h"

int early_words = 0;

__attribute__((constructor)) static void before_everybody(void) {
    const char *path = getenv("EARLY_MODEL");
    if (!path) return;
    size_t len;
    errno = 0;
    char *p = map_model(path, &len);
    REQUIRE(errno == 0);
    check_pages(p, 0, len);
    early_words = len / PAGE;
    char buffer[16];
    int fd = open(path, O_RDONLY);
    REQUIRE(read(fd, buffer, 16) == 16 && pread(fd, buffer, 16, 16) == 16);
    check(buffer, 16, 16);
    REQUIRE(read(-1, buffer, 1) == -1 && errno == EBADF);
    FILE *file = fdopen(fd, "r");
    REQUIRE(file && fseek(file, 8192, SEEK_SET) == 0 && fread(buffer, 8, 2, file) == 2);
    check(buffer, 8192, 16);
    fclose(file);
    REQUIRE(madvise(p, PAGE, 12345) == -1 && errno == EINVAL);
    REQUIRE(posix_madvise(p + 1, PAGE, POSIX_MADV_NORMAL) == EINVAL);
    REQUIRE(munmap(p, len) == 0);
    REQUIRE(mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EINVAL);
}
