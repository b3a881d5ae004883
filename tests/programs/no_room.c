/* no_room MODEL BYTES: once BYTES of the mapped model have been read, the kernel has no memory left for
 * whoever asks for some in advance, in every thread: a filter answers MADV_POPULATE_WRITE with ENOMEM. */
#include "common.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

enum { POPULATE_WRITE = 23 };

static char *model;
static size_t len;

static void refuse_memory(void) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, POPULATE_WRITE, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOMEM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
    REQUIRE(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    REQUIRE(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0);
    REQUIRE(madvise(&len, 0, POPULATE_WRITE) == -1 || errno == ENOMEM);
}

static void *reader(void *seed) {
    check_random(model, len, 200, (uintptr_t)seed);
    check_pages(model, 0, len);
    return NULL;
}

int main(int argc, char **argv) {
    REQUIRE(argc == 3);
    model = map_model(argv[1], &len);
    size_t before = strtoul(argv[2], NULL, 0);
    REQUIRE(before <= len);
    check_pages(model, 0, before);
    refuse_memory();
    pthread_t threads[8];
    for (uintptr_t i = 0; i < 8; i++) REQUIRE(pthread_create(&threads[i], NULL, reader, (void *)i) == 0);
    for (int i = 0; i < 8; i++) REQUIRE(pthread_join(threads[i], NULL) == 0);
    REQUIRE(munmap(model, len) == 0);
    return 0;
}
