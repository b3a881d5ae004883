/* Runs a program in which the kernel refuses some system calls with EPERM, as container run-times do:
 * refuse NUMBER,NUMBER... PROGRAM ARGS. */
#include "common.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>

int main(int argc, char **argv) {
    enum { CALLS_MAX = 8 };
    struct sock_filter filter[CALLS_MAX * 2 + 2];
    unsigned short count = 0, calls = 0;
    REQUIRE(argc >= 3);
    filter[count++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (char *number = strtok(argv[1], ","); number; number = strtok(NULL, ",")) {
        REQUIRE(calls++ < CALLS_MAX);
        filter[count++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, atoi(number), 0, 1);
        filter[count++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    }
    filter[count++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = count, .filter = filter};
    REQUIRE(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    REQUIRE(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    execv(argv[2], argv + 2);
    REQUIRE(!"execv returned");
}
