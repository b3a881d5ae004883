/* Partial unmapping at both ends and in the middle, with unrounded lengths; a stranger's mapping in
 * the hole survives what happens to the view around it. */
#include "common.h"

int main(int argc, char **argv) {
    REQUIRE(argc == 2);
    size_t len;
    char *p = map_model(argv[1], &len);
    check(p, 0, 2 * PAGE);
    REQUIRE(munmap(p + 1, PAGE) == -1 && errno == EINVAL);
    REQUIRE(munmap(p, 0) == -1 && errno == EINVAL);
    errno = 77;
    REQUIRE(munmap(p, 5 * PAGE) == 0 && errno == 77);
    size_t pages = (len + PAGE - 1) / PAGE;
    char *tail = p + (pages - 100) * PAGE;
    REQUIRE(munmap(tail, len - (tail - p)) == 0);
    char *middle = p + 9 * MIB + 3 * PAGE;
    REQUIRE(munmap(middle, 4 * MIB + 123) == 0);
    size_t hole = 4 * MIB + PAGE;
    char *stranger = mmap(middle + PAGE, 2 * MIB, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    REQUIRE(stranger == middle + PAGE);
    memset(stranger, 0x5a, 2 * MIB);
    check_pages(p + 5 * PAGE, 5 * PAGE, middle - p - 5 * PAGE);
    check_pages(middle + hole, middle + hole - p, tail - middle - hole);
    REQUIRE(madvise(stranger, MIB, MADV_DONTNEED) == 0 && stranger[0] == 0);
    /* One call over view, hole, stranger, hole and view: advice reaches the stranger as well. */
    REQUIRE(mprotect(stranger, 2 * MIB, PROT_READ) == 0);
    REQUIRE(mprotect(p + 5 * PAGE, PAGE, PROT_READ) == 0);
    /* Both remaining fragments go, the stranger stays. */
    REQUIRE(munmap(p + 5 * PAGE, middle - p - 5 * PAGE) == 0);
    REQUIRE(munmap(middle + hole, tail - middle - hole) == 0);
    REQUIRE(stranger[2 * MIB - 1] == 0x5a);
    REQUIRE(munmap(stranger, 2 * MIB) == 0);
    /* Again and again, as a server that changes models. */
    for (int round = 0; round < 20; round++) {
        size_t again_len;
        char *again = map_model(argv[1], &again_len);
        check_random(again, again_len, 30, round);
        REQUIRE(munmap(again, (round + 1) * 64 * PAGE) == 0);
        check(again + (round + 1) * 64 * PAGE, (round + 1) * 64 * PAGE, PAGE);
        REQUIRE(munmap(again, again_len) == 0);
    }
    /* What is unmapped is unmapped. */
    p = map_model(argv[1], &len);
    REQUIRE(munmap(p, len) == 0);
    unsigned char state;
    REQUIRE(mincore(p, PAGE, &state) == -1 && errno == ENOMEM);
    return 0;
}
