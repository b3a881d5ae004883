/* Maps a model, and touches its first page. */
#include "common.h"

int main(int argc, char **argv) {
    REQUIRE(argc == 2);
    size_t len;
    const volatile char *model = map_model(argv[1], &len);
    REQUIRE(model[0] == 'G');
    return 0;
}
