/* The file is truncated while it is mapped: pages past the new end answer with SIGBUS, pages before it
 * with their bytes, and the new last page with zeros behind the end. Pages that the pager has in
 * memory already may keep their bytes, so the program touches none of them before. */
#include "bus.h"

int main(int argc, char **argv) {
    REQUIRE(argc == 2);
    size_t len;
    char *model = map_model(argv[1], &len);
    catch_bus();
    check_pages(model, 0, 6 * MIB);
    /* Inside a block and inside a page. */
    size_t end = 21 * MIB + 5 * PAGE + 1000;
    REQUIRE(truncate(argv[1], end) == 0);
    size_t past = 21 * MIB + 6 * PAGE;
    REQUIRE(is_bus(model + 40 * MIB + 24));
    REQUIRE(is_bus(model + past));
    REQUIRE(is_bus(model + past + PAGE + 8));
    REQUIRE(is_bus(model + len / PAGE * PAGE));
    check(model + 20 * MIB, 20 * MIB, end - 20 * MIB);
    for (size_t at = end; at < past; at++) REQUIRE(model[at] == 0);
    check_pages(model, 0, 21 * MIB);
    for (size_t at = past; at < len; at += PAGE) REQUIRE(is_bus(model + at));
    check_pages(model, 0, 21 * MIB);
    REQUIRE(munmap(model, len) == 0);
    return 0;
}
