/* What every hazard program needs: a model whose every word is known from its offset. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096ul
#define MIB (1024ul * 1024)

#define REQUIRE(condition)                                                                              \
    do {                                                                                                \
        if (!(condition)) {                                                                             \
            dprintf(2, "%s:%d: %s: failed (errno %d)\n", __FILE__, __LINE__, #condition, errno);        \
            _exit(99);                                                                                  \
        }                                                                                               \
    } while (0)

/* An address where nothing is, hidden from the compiler. */
static void *volatile const nowhere __attribute__((unused)) = (void *)8;

/* The word at a byte offset: the magic and an impossible version first, then splitmix64. */
static inline uint64_t word_at(uint64_t offset) {
    if (offset == 0) return 0xffffffff46554747ull;
    uint64_t z = offset / 8 + 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

/* Compares len bytes at p with the file from offset on, every word. */
static inline void check(const void *p, uint64_t offset, size_t len) {
    const uint64_t *words = p;
    for (size_t i = 0; i < len / 8; i++) {
        if (words[i] != word_at(offset + i * 8)) {
            dprintf(2, "wrong word at offset %#llx: %#llx\n", (unsigned long long)(offset + i * 8),
                    (unsigned long long)words[i]);
            _exit(98);
        }
    }
}

/* Compares one word of every page. */
static inline void check_pages(const char *p, uint64_t offset, size_t len) {
    for (size_t at = 0; at + 8 <= len; at += PAGE) check(p + at, offset + at, 8);
}

/* Compares count pages anywhere in the first len bytes of the file. */
static inline void check_random(const char *p, size_t len, unsigned count, uint64_t seed) {
    for (unsigned i = 0; i < count; i++) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        size_t at = (seed >> 20) % (len / PAGE) * PAGE;
        check(p + at, at, 64);
    }
}

static inline size_t size_of(int fd) {
    struct stat st;
    REQUIRE(fstat(fd, &st) == 0);
    return st.st_size;
}

/* Maps a model as llama.cpp does: whole, shared, populated, and closes the descriptor. */
static inline char *map_model(const char *path, size_t *len) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    REQUIRE(fd >= 0);
    *len = size_of(fd);
    char *p = mmap(NULL, *len, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
    REQUIRE(p != MAP_FAILED);
    REQUIRE(close(fd) == 0);
    return p;
}

/* Waits for a child that must have ended with status 0. */
static inline void reap(pid_t child) {
    int status = -1;
    pid_t got;
    while ((got = waitpid(child, &status, 0)) < 0 && errno == EINTR) {}
    REQUIRE(got == child);
    if (status != 0) {
        dprintf(2, "child ended with %#x\n", status);
        _exit(97);
    }
}
