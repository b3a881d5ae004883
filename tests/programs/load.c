/* A model that fits, on a slow drive: what programs do to their mapping while it is being loaded. */
#include "bus.h"
#include <dirent.h>

/* Threads of the loader. */
static int loaders(void) {
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");
    REQUIRE(tasks);
    for (struct dirent *task; (task = readdir(tasks));) {
        char path[300], name[32] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
        FILE *comm = fopen(path, "r");
        if (!comm) continue;
        if (fgets(name, sizeof name, comm) && strcmp(name, "ggpager-load\n") == 0) count++;
        fclose(comm);
    }
    closedir(tasks);
    return count;
}

static void wait_for_the_loader(void) {
    while (loaders() > 0) usleep(1000);
}

int main(int argc, char **argv) {
    REQUIRE(argc == 4);
    const char *mode = argv[1], *path = argv[2];
    size_t len, most = strtoul(argv[3], NULL, 10);
    char *model = map_model(path, &len);
    if (strcmp(mode, "exit") == 0) exit(0);
    while (loaders() == 0) usleep(100);
    if (strcmp(mode, "unmap") == 0) {
        /* The head, as llama.cpp does, and nearly everything behind `most`. */
        REQUIRE(munmap(model, 3 * PAGE) == 0);
        REQUIRE(munmap(model + most, len - most) == 0);
        wait_for_the_loader();
        check_pages(model + 3 * PAGE, 3 * PAGE, most - 3 * PAGE);
    } else if (strcmp(mode, "truncate") == 0) {
        catch_bus();
        REQUIRE(truncate(path, most) == 0);
        wait_for_the_loader();
        check_pages(model, 0, most);
        REQUIRE(is_bus(model + most + PAGE));
    } else if (strcmp(mode, "hog") == 0) {
        char *taken = mmap(NULL, most, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        REQUIRE(taken != MAP_FAILED);
        for (size_t at = 0; at < most; at += PAGE) taken[at] = 1;
        wait_for_the_loader();
        REQUIRE(munmap(taken, most) == 0);
        check_pages(model, 0, len);
    } else if (strcmp(mode, "fork") == 0) {
        for (int round = 0; round < 3; round++) {
            pid_t child = round == 2 ? _Fork() : fork();
            REQUIRE(child >= 0);
            if (child == 0) {
                /* No loader here, and every call works. */
                REQUIRE(loaders() == 0);
                check_pages(model, 0, 4 * MIB);
                REQUIRE(munmap(model + 8 * MIB, len - 8 * MIB) == 0);
                if (round == 0) exit(0);
                if (round == 1) execl("/bin/true", "true", NULL);
                _exit(0);
            }
            reap(child);
        }
        check_pages(model, 0, len);
        wait_for_the_loader();
    } else {
        REQUIRE(!"a mode");
    }
    return 0;
}
