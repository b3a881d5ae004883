/* bad_disk FOLDER MODEL START END: mounts a file system on FOLDER with one file, `model.gguf`, whose
 * bytes are those of MODEL, except that reads that touch START to END fail with EIO. Speaks to
 * /dev/fuse directly; says `ready`, fails all reads after a byte of input (and says `failing`), and
 * unmounts and ends when its input does. */
#include "common.h"
#include <linux/fuse.h>
#include <sys/mount.h>
#include <sys/prctl.h>

static int fuse, file;
static size_t file_len, bad_start, bad_end;
static atomic_int failing;
static const char *folder;

static void answer(uint64_t unique, int error, const void *data, size_t len) {
    struct fuse_out_header header = {.len = sizeof header + len, .error = error, .unique = unique};
    struct iovec parts[2] = {{&header, sizeof header}, {(void *)data, len}};
    /* ENOENT: the request was interrupted. */
    REQUIRE(writev(fuse, parts, len ? 2 : 1) == (ssize_t)header.len || errno == ENOENT);
}

static struct fuse_attr attributes(uint64_t node) {
    int is_root = node == FUSE_ROOT_ID;
    return (struct fuse_attr){.ino = node, .size = is_root ? 0 : file_len, .blocks = file_len / 512, .nlink = 1,
                              .mode = is_root ? S_IFDIR | 0755 : S_IFREG | 0644, .blksize = PAGE};
}

static void serve(const struct fuse_in_header *in, const void *body) {
    static char data[MIB];
    switch (in->opcode) {
    case FUSE_INIT: {
        const struct fuse_init_in *asked = body;
        struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION, .minor = asked->minor, .max_write = 128 << 10,
                                    .max_readahead = 128 << 10};
        if (out.minor > FUSE_KERNEL_MINOR_VERSION) out.minor = FUSE_KERNEL_MINOR_VERSION;
        return answer(in->unique, 0, &out, sizeof out);
    }
    case FUSE_LOOKUP: {
        if (in->nodeid != FUSE_ROOT_ID || strcmp(body, "model.gguf") != 0) return answer(in->unique, -ENOENT, NULL, 0);
        struct fuse_entry_out out = {.nodeid = 2, .entry_valid = 3600, .attr_valid = 3600, .attr = attributes(2)};
        return answer(in->unique, 0, &out, sizeof out);
    }
    case FUSE_GETATTR: {
        struct fuse_attr_out out = {.attr_valid = 3600, .attr = attributes(in->nodeid)};
        return answer(in->unique, 0, &out, sizeof out);
    }
    case FUSE_OPEN: {
        struct fuse_open_out out = {0};
        return answer(in->unique, 0, &out, sizeof out);
    }
    case FUSE_READ: {
        const struct fuse_read_in *read = body;
        REQUIRE(read->size <= sizeof data);
        if (failing || (read->offset < bad_end && read->offset + read->size > bad_start))
            return answer(in->unique, -EIO, NULL, 0);
        ssize_t got = pread(file, data, read->size, read->offset);
        REQUIRE(got >= 0);
        return answer(in->unique, 0, data, got);
    }
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
        return;
    case FUSE_FLUSH:
    case FUSE_RELEASE:
    case FUSE_ACCESS:
        return answer(in->unique, 0, NULL, 0);
    default:
        return answer(in->unique, -ENOSYS, NULL, 0);
    }
}

static void *until_input_ends(void *unused) {
    char byte;
    while (read(0, &byte, 1) > 0) {
        failing = 1;
        dprintf(1, "failing\n");
    }
    umount2(folder, MNT_DETACH);
    _exit(0);
}

int main(int argc, char **argv) {
    REQUIRE(argc == 5);
    folder = argv[1];
    bad_start = strtoul(argv[3], NULL, 0);
    bad_end = strtoul(argv[4], NULL, 0);
    file = open(argv[2], O_RDONLY | O_CLOEXEC);
    REQUIRE(file >= 0);
    file_len = size_of(file);
    fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    REQUIRE(fuse >= 0);
    char options[128];
    snprintf(options, sizeof options, "fd=%d,rootmode=40755,user_id=0,group_id=0,allow_other,default_permissions", fuse);
    REQUIRE(mount("bad_disk", folder, "fuse.bad_disk", MS_NOSUID | MS_NODEV, options) == 0);
    pthread_t waiter;
    REQUIRE(pthread_create(&waiter, NULL, until_input_ends, NULL) == 0);
    dprintf(1, "ready\n");
    static _Alignas(8) char request[MIB + PAGE];
    for (;;) {
        ssize_t got = read(fuse, request, sizeof request);
        if (got < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT)) continue;
        if (got <= 0) return 0; /* unmounted */
        serve((const struct fuse_in_header *)request, request + sizeof(struct fuse_in_header));
    }
}
