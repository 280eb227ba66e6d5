/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream of a subvolume as a stranger may send it, applied to a directory, without the receiver's confinement: paths
 * and commands alone must keep it inside. The commands' checksums are made right, or hardly any input would come far.
 */
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "storage/receive_apply.h"

#define CANARY "do not touch"
enum { STREAM_HEAD = 17, COMMAND_HEAD = 10, INPUT_MAX = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct input {
    unsigned char *data;
    size_t len, at;
};

static struct err *take(void *owner, void *data, size_t len)
{
    struct input *in = owner;

    if (len > in->len - in->at)
        return err_new(ERR_INVALID, "the stream ends too early");
    memcpy(data, in->data + in->at, len);
    in->at += len;
    return NULL;
}

static void mend_checksums(struct input *in)
{
    for (size_t at = STREAM_HEAD; at + COMMAND_HEAD <= in->len;) {
        unsigned char *p = in->data + at;
        size_t len = (size_t)p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16 | (size_t)p[3] << 24;
        uint32_t crc;

        if (len > in->len - at - COMMAND_HEAD)
            return;
        memset(p + 6, 0, 4);
        crc = send_checksum(0, p, COMMAND_HEAD + len);
        for (int i = 0; i < 4; i++)
            p[6 + i] = (unsigned char)(crc >> (8 * i));
        at += COMMAND_HEAD + len;
    }
}

/* With the reason: what a run on another machine's file system trips over has to be readable there. */
static _Noreturn void broken(const char *what)
{
    perror(what);
    abort();
}

static int remove_one(const char *name, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(name);
}

static char path[] = "/tmp/fuzz-stream-XXXXXX";

static void remove_all(void)
{
    (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* The directory "root" in a place of its own, beside a file that nobody may change. */
static const char *place(void)
{
    static bool made;
    autofree char *canary = NULL;
    FILE *f;

    if (made)
        return path;
    made = true;
    if (!mkdtemp(path) || atexit(remove_all) != 0)
        broken(path);
    canary = str_fmt("%s/canary", path);
    f = fopen(canary, "w");
    if (!f || fputs(CANARY, f) < 0 || fclose(f) != 0 || chmod(canary, 0600) < 0)
        broken(canary);
    return path;
}

/* What the directory holds besides "." and "..": its link count would say it on some file systems only. */
static int entries(const char *dir)
{
    DIR *d = opendir(dir);
    int count = -2;

    if (!d)
        broken(dir);
    while (readdir(d))
        count++;
    closedir(d);
    return count;
}

static void check_canary(const char *dir)
{
    autofree char *canary = str_fmt("%s/canary", dir);
    char text[64] = "";
    struct stat st;
    FILE *f = fopen(canary, "r");

    if (!f || !fgets(text, sizeof(text), f) || !str_eq(text, CANARY) || fstat(fileno(f), &st) < 0)
        broken(canary);
    if (st.st_nlink != 1 || (st.st_mode & 07777) != 0600)
        broken("the links or the mode of the canary changed");
    if (entries(dir) != 2)
        broken("something was made beside the root");
    (void)fclose(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const char *dir = place();
    autofree char *root = str_fmt("%s/root", dir);
    struct input in = {.len = MIN(len, INPUT_MAX)};
    int home = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct receive_apply a = {.parent = -1, .read = take, .owner = &in};

    in.data = mem_new_array(unsigned char, in.len + 1);
    memcpy(in.data, data, in.len);
    mend_checksums(&in);
    if (mkdir(root, 0700) < 0)
        broken(root);
    a.root = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (a.root < 0)
        broken(root);
    err_ignore(receive_apply(&a));
    close(a.root);
    free(in.data);
    if (fchdir(home) < 0)
        broken("the directory of before");
    close(home);
    check_canary(dir);
    if (nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0)
        broken("the root could not be removed");
    return 0;
}
