/* Loads a library for itself alone that sets a callback of ggml's. */
#include "common.h"
#include <dlfcn.h>

int main(int argc, char **argv) {
    REQUIRE(argc == 3);
    size_t len;
    char *model = map_model(argv[1], &len);
    check_pages(model, 0, len);
    void *library = dlopen(argv[2], RTLD_NOW | RTLD_LOCAL);
    REQUIRE(library != NULL);
    int (*arrives)(void) = (int (*)(void))dlsym(library, "arrives");
    REQUIRE(arrives != NULL && arrives());
    return 0;
}
