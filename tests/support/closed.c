/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tries what root of a container must not be able to do; static. One line for each: its name and "refused", or "DONE".
 * usage: closed            all of it
 *        closed keep TEXT  makes a key that its user may read, prints its number and waits a minute
 *        closed read KEY   tries to read that key
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

static void report(const char *name, long result)
{
    printf("%s %s\n", name, result < 0 ? "refused" : "DONE");
}

static void devices(void)
{
    report("block-device", mknod("/tmp/closed-b", S_IFBLK | 0600, makedev(7, 0)));
    report("memory-device", mknod("/tmp/closed-c", S_IFCHR | 0600, makedev(1, 1)));
    report("io-ports", iopl(3));
    report("io-port", ioperm(0x80, 1, 1));
    report("swap", swapon("/etc/hostname", 0));
    report("accounting", acct("/etc/hostname"));
}

/* File systems that read a disk, which would be the kernel's parser in a stranger's hands, or the kernel's own data. */
static void file_systems(void)
{
    static const char *const types[] = {"btrfs",   "ext4",    "squashfs",   "xfs",      "vfat",
                                        "debugfs", "tracefs", "securityfs", "configfs", "pstore"};

    mkdir("/tmp/closed-m", 0700);
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        char name[64];

        snprintf(name, sizeof(name), "mount-%s", types[i]);
        report(name, mount("/etc/hostname", "/tmp/closed-m", types[i], 0, NULL));
    }
}

static void kernel(void)
{
    struct {
        struct file_handle head;
        unsigned char bytes[64];
    } handle = {.head = {.handle_bytes = sizeof(handle.bytes)}};
    struct bpf_insn exit_0[] = {{.code = 0xb7}, {.code = 0x95}};
    union bpf_attr program = {.prog_type = BPF_PROG_TYPE_SOCKET_FILTER,
                              .insn_cnt = 2,
                              .insns = (unsigned long)exit_0,
                              .license = (unsigned long)"GPL"};
    union bpf_attr map = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
    struct perf_event_attr event = {.type = PERF_TYPE_SOFTWARE, .size = sizeof(event)};
    struct timespec now = {.tv_sec = 1};
    struct timex adjust = {.modes = ADJ_TICK, .tick = 10000};
    int mount_id;

    if (name_to_handle_at(AT_FDCWD, "/etc", &handle.head, &mount_id, 0) < 0)
        handle.head.handle_bytes = 8;
    report("open-by-handle", open_by_handle_at(open("/", O_RDONLY), &handle.head, O_RDONLY));
    report("bpf-program", syscall(SYS_bpf, BPF_PROG_LOAD, &program, sizeof(program)));
    report("bpf-map", syscall(SYS_bpf, BPF_MAP_CREATE, &map, sizeof(map)));
    report("kexec", syscall(SYS_kexec_load, 0, 0, NULL, 0));
    report("kexec-file", syscall(SYS_kexec_file_load, -1, -1, 0, NULL, 0x1));
    report("module", syscall(SYS_init_module, "", 0, ""));
    report("module-file", syscall(SYS_finit_module, open("/etc/hostname", O_RDONLY), "", 0));
    report("module-removal", syscall(SYS_delete_module, "none", O_NONBLOCK));
    report("clock", clock_settime(CLOCK_REALTIME, &now));
    report("clock-rate", adjtimex(&adjust));
    report("perf-of-a-cpu", syscall(SYS_perf_event_open, &event, -1, 0, -1, 0));
}

/* Below /dev/.lxc are a proc and a sysfs without liblxc's mounts over them: what the kernel itself refuses. */
static void switches(void)
{
    static const char *const files[] = {
        "sys/kernel/core_pattern", "sys/kernel/modprobe",   "sys/kernel/hotplug", "sysrq-trigger",
        "sys/vm/drop_caches",      "sys/kernel/panic",      "sys/fs/suid_dumpable", "sys/kernel/kptr_restrict",
        "sys/kernel/sysrq",        "sys/vm/overcommit_memory"};
    static const char *const sysfs[] = {"kernel/uevent_helper", "power/state", "kernel/mm/ksm/run", "kernel/profiling",
                                        "module/kernel/parameters/panic"};
    static const char *const roots[] = {"/proc", "/dev/.lxc/proc"}, *const sys_roots[] = {"/sys", "/dev/.lxc/sys"};
    char path[256], name[300];

    for (size_t r = 0; r < 2; r++) {
        for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
            snprintf(path, sizeof(path), "%s/%s", roots[r], files[i]);
            snprintf(name, sizeof(name), "write-%s", path);
            report(name, open(path, O_WRONLY));
        }
        for (size_t i = 0; i < sizeof(sysfs) / sizeof(sysfs[0]); i++) {
            snprintf(path, sizeof(path), "%s/%s", sys_roots[r], sysfs[i]);
            snprintf(name, sizeof(name), "write-%s", path);
            report(name, open(path, O_WRONLY));
        }
        snprintf(path, sizeof(path), "%s/kcore", roots[r]);
        snprintf(name, sizeof(name), "read-%s", path);
        report(name, open(path, O_RDONLY));
    }
    report("read-/dev/mem", open("/dev/mem", O_RDONLY));
    report("read-/dev/kmsg", open("/dev/kmsg", O_RDONLY));
    report("read-/dev/kvm", open("/dev/kvm", O_RDWR));
    report("read-/dev/loop-control", open("/dev/loop-control", O_RDWR));
}

static int keep(const char *text)
{
    long key = syscall(SYS_add_key, "user", "of-a-container", text, strlen(text), KEY_SPEC_USER_KEYRING);

    if (key < 0 || syscall(SYS_keyctl, KEYCTL_SETPERM, key, 0x3f3f0000) < 0)
        return 1;
    printf("%ld\n", key);
    fflush(stdout);
    alarm(60);
    pause();
    return 0;
}

static int read_key(const char *number)
{
    char text[256];
    long got = syscall(SYS_keyctl, KEYCTL_READ, atol(number), text, sizeof(text));

    report("key", got);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "keep") == 0)
        return keep(argv[2]);
    if (argc == 3 && strcmp(argv[1], "read") == 0)
        return read_key(argv[2]);
    devices();
    file_systems();
    kernel();
    switches();
    return 0;
}
