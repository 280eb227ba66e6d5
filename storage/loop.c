/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/loop.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/str.h"

/* Kept by the kernel beside the real file name; tells our devices from those of mount(8). */
#define LOOP_LABEL "noded-pool"
#define LOOP_TRIES 64

static int configure(int device, int file)
{
    struct loop_config config = {.fd = (__u32)file};

    memcpy(config.info.lo_file_name, LOOP_LABEL, sizeof(LOOP_LABEL));
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO;
    config.block_size = 4096;
    if (ioctl(device, LOOP_CONFIGURE, &config) == 0)
        return 0;
    if (errno != EINVAL)
        return errno;
    /* The file system below may have no direct I/O (tmpfs before Linux 6.6). */
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
    return ioctl(device, LOOP_CONFIGURE, &config) == 0 ? 0 : errno;
}

static void closedirp(DIR **d)
{
    if (*d)
        closedir(*d);
}

/* True when the device is attached to this file; *ret_fd then keeps it so. */
static bool is_attached(const char *device, const struct stat *file, int *ret_fd)
{
    autofd int fd = open(device, O_RDWR | O_CLOEXEC);
    struct loop_info64 info;

    if (fd < 0 || ioctl(fd, LOOP_GET_STATUS64, &info) < 0 || info.lo_inode != file->st_ino ||
        info.lo_device != file->st_dev)
        return false;
    /* The file may have grown since. */
    (void)ioctl(fd, LOOP_SET_CAPACITY, 0);
    *ret_fd = fd_steal(&fd);
    return true;
}

static bool find_attached(int backing, int *ret_fd, char **ret_device)
{
    __attribute__((cleanup(closedirp))) DIR *dir = opendir("/sys/block");
    struct dirent *d;
    struct stat st;

    if (!dir || fstat(backing, &st) < 0)
        return false;
    while ((d = readdir(dir))) {
        autofree char *attached = str_fmt("/sys/block/%s/loop", d->d_name), *device = str_fmt("/dev/%s", d->d_name);

        if (strncmp(d->d_name, "loop", 4) == 0 && access(attached, F_OK) == 0 && is_attached(device, &st, ret_fd)) {
            *ret_device = steal(&device);
            return true;
        }
    }
    return false;
}

struct err *loop_attach(const char *file, int *ret_fd, char **ret_device)
{
    autofd int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    autofd int backing = open(file, O_RDWR | O_CLOEXEC);

    if (control < 0)
        return err_errno(errno, "cannot open '/dev/loop-control'");
    if (backing < 0)
        return err_errno(errno, "cannot open '%s'", file);
    if (find_attached(backing, ret_fd, ret_device))
        return NULL;
    /* Another process may take the free device between the two calls. */
    for (int i = 0; i < LOOP_TRIES; i++) {
        int n = ioctl(control, LOOP_CTL_GET_FREE), errnum;
        autofree char *device = NULL;
        autofd int fd = -1;

        if (n < 0)
            return err_errno(errno, "no free loop device");
        device = str_fmt("/dev/loop%d", n);
        fd = open(device, O_RDWR | O_CLOEXEC);
        if (fd < 0)
            return err_errno(errno, "cannot open '%s'", device);
        errnum = configure(fd, backing);
        if (errnum == EBUSY)
            continue;
        if (errnum)
            return err_errno(errnum, "cannot use '%s' for '%s'", device, file);
        *ret_device = steal(&device);
        *ret_fd = fd_steal(&fd);
        return NULL;
    }
    return err_new(ERR_HOST, "no free loop device");
}

bool loop_is_ours(const char *device)
{
    struct loop_info64 info;
    autofd int fd = open(device, O_RDONLY | O_CLOEXEC);

    return fd >= 0 && ioctl(fd, LOOP_GET_STATUS64, &info) == 0 &&
           strncmp((const char *)info.lo_file_name, LOOP_LABEL, sizeof(info.lo_file_name)) == 0;
}
