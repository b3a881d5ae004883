/* The file is replaced by rename, then removed, while it is mapped. */
#include "common.h"

int main(int argc, char **argv) {
    REQUIRE(argc == 4);
    const char *path = argv[2], *other = argv[3];
    size_t len;
    char *p = map_model(path, &len);
    check_random(p, len, 20, 1);
    REQUIRE(rename(other, path) == 0);
    check_pages(p, 0, len);
    /* The other file is another model: all zeros behind its magic. */
    size_t other_len;
    char *q = map_model(path, &other_len);
    REQUIRE(memcmp(q, "GGUF", 4) == 0);
    for (size_t at = PAGE; at < other_len; at += PAGE) REQUIRE(q[at] == 0);
    REQUIRE(unlink(path) == 0);
    check_pages(p, 0, len);
    for (size_t at = PAGE; at < other_len; at += PAGE) REQUIRE(q[at] == 0);
    REQUIRE(munmap(p, len) == 0 && munmap(q, other_len) == 0);
    return 0;
}
