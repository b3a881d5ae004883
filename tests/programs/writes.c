/* System calls that read the view: without privileges a hole would answer EFAULT to them. */
#include "common.h"

static char *model;
static size_t model_len;

struct drain {
    int fd;
    uint64_t offset;
    size_t len;
};

/* Reads a stream to its end and compares it with the file. */
static void *drain(void *argument) {
    struct drain *want = argument;
    uint64_t words[8192];
    size_t got = 0, fill = 0;
    ssize_t n;
    while ((n = read(want->fd, (char *)words + fill, sizeof words - fill)) > 0) {
        fill += n;
        size_t whole = fill / 8 * 8;
        check(words, want->offset + got, whole);
        got += whole;
        memmove(words, (char *)words + whole, fill - whole);
        fill -= whole;
    }
    REQUIRE(n == 0 && got == want->len && fill == 0);
    return NULL;
}

static void through(int in, int out, uint64_t offset, size_t len, ssize_t (*put)(int, uint64_t, size_t)) {
    struct drain want = {out, offset, len};
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, drain, &want) == 0);
    for (size_t done = 0; done < len;) {
        ssize_t n = put(in, offset + done, len - done);
        REQUIRE(n > 0);
        done += n;
    }
    REQUIRE(close(in) == 0 && pthread_join(thread, NULL) == 0 && close(out) == 0);
}

static ssize_t put_write(int fd, uint64_t at, size_t len) { return write(fd, model + at, len); }
static ssize_t put_send(int fd, uint64_t at, size_t len) { return send(fd, model + at, len, MSG_NOSIGNAL); }
static ssize_t put_sendto(int fd, uint64_t at, size_t len) { return sendto(fd, model + at, len, 0, NULL, 0); }
static ssize_t put_writev(int fd, uint64_t at, size_t len) {
    size_t a = len / 3 / 8 * 8, b = len / 5 / 8 * 8;
    char *own = malloc(b + 1);
    for (size_t i = 0; i < b; i += 8) *(uint64_t *)(own + i) = word_at(at + a + i);
    struct iovec parts[] = {{model + at, a}, {own, b}, {NULL, 0}, {model + at + a + b, len - a - b}};
    ssize_t n = writev(fd, parts, 4);
    free(own);
    return n;
}
static ssize_t put_sendmsg(int fd, uint64_t at, size_t len) {
    struct iovec parts[] = {{model + at, len / 2}, {model + at + len / 2, len - len / 2}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    return sendmsg(fd, &message, 0);
}

static void messages(void) {
    int pair[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
    char *buffer = malloc(MIB);
    for (int i = 0; i < 4; i++) {
        size_t at = (11 + i * 3) * MIB + 8, len = 60000;
        ssize_t n = i == 0   ? write(pair[0], model + at, len)
                    : i == 1 ? put_send(pair[0], at, len)
                    : i == 2 ? put_writev(pair[0], at, len)
                             : put_sendmsg(pair[0], at, len);
        REQUIRE(n == (ssize_t)len);
        REQUIRE(recv(pair[1], buffer, MIB, 0) == (ssize_t)len);
        check(buffer, at, len);
    }
    /* A message with a descriptor: control data is sent once. */
    struct iovec part = {model + 20 * MIB, 4096};
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET, header->cmsg_type = SCM_RIGHTS, header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &pair[0], sizeof(int));
    REQUIRE(sendmsg(pair[0], &message, 0) == 4096);
    struct iovec into = {buffer, MIB};
    struct msghdr received = {.msg_iov = &into, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    REQUIRE(recvmsg(pair[1], &received, 0) == 4096 && received.msg_controllen == sizeof control);
    check(buffer, 20 * MIB, 4096);
    /* A full socket that may not wait: progress first, then EAGAIN, never an error for progress. */
    REQUIRE(send(pair[0], model + PAGE, 32 * MIB, MSG_DONTWAIT) == -1 && errno == EMSGSIZE);
    free(buffer);
}

static void files(const char *path) {
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    REQUIRE(fd >= 0);
    errno = 66;
    REQUIRE(write(fd, model, 5 * MIB) == (ssize_t)(5 * MIB));
    REQUIRE(pwrite(fd, model + 5 * MIB, 3 * MIB + 16, 5 * MIB) == (ssize_t)(3 * MIB + 16));
    REQUIRE(errno == 66);
    FILE *file = fdopen(dup(fd), "w");
    REQUIRE(file && fseek(file, 0, SEEK_END) == 0);
    REQUIRE(fwrite(model + 8 * MIB + 16, 48, 50000, file) == 50000);
    REQUIRE(fclose(file) == 0);
    size_t len = 8 * MIB + 16 + 48 * 50000;
    REQUIRE(size_of(fd) == len);
    char *copy = malloc(len);
    REQUIRE(pread(fd, copy, len, 0) == (ssize_t)len);
    check(copy, 0, len);
    free(copy);
    REQUIRE(close(fd) == 0 && unlink(path) == 0);
    /* A bad pointer in the list is the kernel's to report, and so are bad descriptors. */
    int null[2];
    REQUIRE(pipe(null) == 0);
    struct iovec bad[] = {{nowhere, 64}, {model + 30 * MIB, 64}};
    REQUIRE(writev(null[1], bad, 2) == -1 && errno == EFAULT);
    REQUIRE(write(null[1], nowhere, 64) == -1 && errno == EFAULT);
    REQUIRE(write(-1, model + 30 * MIB, 64) == -1 && errno == EBADF);
    REQUIRE(write(null[1], model + 30 * MIB, 0) == 0);
    signal(SIGPIPE, SIG_IGN);
    REQUIRE(close(null[0]) == 0);
    REQUIRE(write(null[1], model + 31 * MIB, 64) == -1 && errno == EPIPE);
    REQUIRE(close(null[1]) == 0);
    /* A full pipe that may not wait: what fitted is the answer, an error only when nothing did. */
    REQUIRE(pipe2(null, O_NONBLOCK) == 0);
    ssize_t n = write(null[1], model + 32 * MIB, 8 * MIB);
    REQUIRE(n > 0 && n < (ssize_t)(8 * MIB));
    REQUIRE(write(null[1], model + 32 * MIB, 8 * MIB) == -1 && errno == EAGAIN);
    char *back = malloc(n);
    REQUIRE(read(null[0], back, n) == n);
    check(back, 32 * MIB, n);
    free(back);
}

int main(int argc, char **argv) {
    REQUIRE(argc == 3);
    model = map_model(argv[1], &model_len);
    ssize_t (*const streams[])(int, uint64_t, size_t) = {put_write, put_writev, put_send, put_sendto, put_sendmsg};
    for (int i = 0; i < 5; i++) {
        int pair[2];
        if (i < 2) {
            REQUIRE(pipe(pair) == 0);
            through(pair[1], pair[0], (i + 1) * 2 * MIB + 24, 5 * MIB + 160, streams[i]);
        } else {
            REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
            through(pair[0], pair[1], (i + 1) * 2 * MIB + 24, 5 * MIB + 160, streams[i]);
        }
    }
    messages();
    files(argv[2]);
    REQUIRE(munmap(model, model_len) == 0);
    return 0;
}
