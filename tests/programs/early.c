/* Hooks are called before the pager's constructor has run: see early_lib.c. */
#include "common.h"

extern int early_words __attribute__((weak));

int main(int argc, char **argv) {
    REQUIRE(argc == 2 && &early_words && early_words > 0);
    size_t len;
    char *p = map_model(argv[1], &len);
    check_pages(p, 0, len);
    return 0;
}
