/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file system that stops answering, for use inside a container; static: FUSE, and an overlay above it, which lets
 * through whoever looks. Mounts both, says "ready" and goes on in the background, reading questions and answering none.
 * usage: fusetrap over DIR    the overlay lies over DIR
 *        fusetrap root        the overlay becomes the root of all processes of this mount namespace
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HOLE "/run/trap"

static volatile int *silent;

static void die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static void reply(int fd, uint64_t id, int error, const void *body, size_t len)
{
    char out[4096];
    struct fuse_out_header head = {.len = (uint32_t)(sizeof(head) + len), .error = error, .unique = id};

    memcpy(out, &head, sizeof(head));
    if (len)
        memcpy(out + sizeof(head), body, len);
    if (write(fd, out, head.len) < 0 && errno != ENOENT)
        exit(1);
}

static void answer(int fd, const struct fuse_in_header *in, const void *body)
{
    const struct fuse_init_in *asked = body;
    struct fuse_init_out init = {.major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION, .max_write = 4096};
    struct fuse_attr_out attr = {.attr = {.ino = 1, .mode = S_IFDIR | 0755, .nlink = 2}};
    struct fuse_statfs_out fs = {.st = {.bsize = 4096, .namelen = 255}};
    struct fuse_open_out opened = {.fh = 1};

    switch (in->opcode) {
    case FUSE_INIT:
        init.max_readahead = asked->max_readahead;
        reply(fd, in->unique, 0, &init, sizeof(init));
        return;
    case FUSE_GETATTR:
        reply(fd, in->unique, 0, &attr, sizeof(attr));
        return;
    case FUSE_STATFS:
        reply(fd, in->unique, 0, &fs, sizeof(fs));
        return;
    case FUSE_OPENDIR:
        reply(fd, in->unique, 0, &opened, sizeof(opened));
        return;
    case FUSE_READDIR:
    case FUSE_RELEASEDIR:
        reply(fd, in->unique, 0, NULL, 0);
        return;
    case FUSE_LOOKUP:
        reply(fd, in->unique, -ENOENT, NULL, 0);
        return;
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
        return;
    default:
        reply(fd, in->unique, -ENOSYS, NULL, 0);
    }
}

static void serve(int fd)
{
    static char in[1 << 17];

    for (;;) {
        ssize_t n = read(fd, in, sizeof(in));

        if (n < 0 && errno != EINTR && errno != ENOENT)
            exit(0);
        if (n > 0 && !*silent)
            answer(fd, (struct fuse_in_header *)in, in + sizeof(struct fuse_in_header));
    }
}

static void make(const char *path)
{
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        die(path);
}

int main(int argc, char **argv)
{
    const char *over = argc == 3 && strcmp(argv[1], "over") == 0 ? argv[2] : HOLE "/all";
    char options[128];
    int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

    if (fd < 0)
        die("/dev/fuse");
    make(HOLE);
    make(HOLE "/fuse");
    make(HOLE "/plain");
    make(HOLE "/plain/old");
    make(HOLE "/all");
    silent = mmap(NULL, sizeof(*silent), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd);
    if (silent == MAP_FAILED || mount("trap", HOLE "/fuse", "fuse", 0, options) < 0)
        die("fuse");
    if (fork() == 0) {
        setsid();
        (void)freopen("/dev/null", "r", stdin);
        (void)freopen("/dev/null", "w", stdout);
        (void)freopen("/dev/null", "w", stderr);
        serve(fd);
    }
    if (mount("trap", over, "overlay", 0, "lowerdir=" HOLE "/fuse:" HOLE "/plain") < 0)
        die("overlay");
    if (argc == 2 && strcmp(argv[1], "root") == 0 &&
        (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || chdir(over) < 0 ||
         syscall(SYS_pivot_root, ".", "old") < 0))
        die("pivot_root");
    *silent = 1;
    puts("ready");
    return 0;
}
