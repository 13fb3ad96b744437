/*
 * Copyright (c) 2026, The stasis.lxc authors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Init of a container that the preflight has something to say about: one static program.
 *
 *   trouble WHAT [ARGUMENT]   makes one situation in a child of its own, then writes /tmp/trouble and waits
 *
 * Each situation is a function below; the table at the end names them. The child carries the name of its situation.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/perf_event.h>
#include <linux/rtnetlink.h>
#include <linux/seccomp.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif
#define MEMFD_SECRET 447
#define PIDFD_OPEN 434
#define IO_URING_SETUP 425
#define FSOPEN 430
#define PIDFD_THREAD_FLAG O_EXCL

static const char *argument = "";

static void fail(const char *what)
{
    FILE *log = fopen("/tmp/trouble.error", "w");

    if (log) {
        fprintf(log, "%s: %s\n", what, strerror(errno));
        fclose(log);
    }
    exit(1);
}

static int need(long result, const char *what)
{
    if (result < 0)
        fail(what);
    return (int)result;
}

static void ready(void)
{
    close(need(open("/tmp/trouble.new", O_CREAT | O_WRONLY, 0644), "ready"));
    need(rename("/tmp/trouble.new", "/tmp/trouble"), "ready");
}

static void stay(void)
{
    ready();
    for (;;)
        pause();
}

/* The situation lasts until somebody makes /tmp/go. */
static void stay_until_told(void)
{
    ready();
    while (access("/tmp/go", F_OK) < 0)
        usleep(20000);
}

/* Everything that CRIU keeps, so that none of it may be reported as blocking. */
static void ordinary(void)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "/tmp/ordinary"};
    struct itimerspec later = {.it_value = {.tv_sec = 1000000}};
    struct epoll_event event = {.events = EPOLLIN};
    sigset_t signals;
    int pair[2], listener, client, epoll, watch;

    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    need(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
    need(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), "socketpair dgram");
    need(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), "socketpair seqpacket");
    listener = need(socket(AF_UNIX, SOCK_STREAM, 0), "socket");
    need(bind(listener, (struct sockaddr *)&name, sizeof(name)), "bind");
    need(listen(listener, 5), "listen");
    client = need(socket(AF_UNIX, SOCK_STREAM, 0), "socket");
    need(connect(client, (struct sockaddr *)&name, sizeof(name)), "connect");
    need(accept(listener, NULL, NULL), "accept");
    /* One connection that nobody accepts, and one half of a pair that is gone. */
    client = need(socket(AF_UNIX, SOCK_STREAM, 0), "socket");
    need(connect(client, (struct sockaddr *)&name, sizeof(name)), "connect");
    need(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
    close(pair[1]);
    need(socket(AF_INET, SOCK_STREAM, 0), "tcp");
    need(socket(AF_INET6, SOCK_STREAM, 0), "tcp6");
    need(socket(AF_INET, SOCK_DGRAM, 0), "udp");
    need(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), "raw");
    need(socket(AF_PACKET, SOCK_RAW, 0), "packet");
    need(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE), "netlink");
    need(pipe(pair), "pipe");
    need(eventfd(0, 0), "eventfd");
    need(signalfd(-1, &signals, 0), "signalfd");
    need(timerfd_settime(need(timerfd_create(CLOCK_MONOTONIC, 0), "timerfd"), 0, &later, NULL), "timerfd");
    epoll = need(epoll_create1(0), "epoll");
    need(epoll_ctl(epoll, EPOLL_CTL_ADD, pair[0], &event), "epoll_ctl");
    need(memfd_create("ordinary", 0), "memfd");
    watch = need(inotify_init1(0), "inotify");
    need(inotify_add_watch(watch, "/tmp", IN_CREATE), "inotify");
    need(open("/dev/null", O_RDWR), "null");
    need(open("/dev/urandom", O_RDONLY), "urandom");
    need(open("/proc/self/status", O_RDONLY), "proc");
    need(open("/", O_RDONLY | O_DIRECTORY), "directory");
    need(open("/proc/self/ns/net", O_RDONLY), "namespace");
    need(syscall(PIDFD_OPEN, getpid(), 0), "pidfd");
    need(posix_openpt(O_RDWR | O_NOCTTY), "ptmx");
    mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (fork() == 0)
        raise(SIGSTOP);
    stay();
}

/*
 * Descriptors
 */

static void bpf_map(void)
{
    union bpf_attr attr = {.map_type = BPF_MAP_TYPE_LRU_HASH, .key_size = 4, .value_size = 4, .max_entries = 4};

    need(syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof(attr)), "bpf map");
    stay();
}

static void bpf_array(void)
{
    union bpf_attr attr = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 4};

    need(syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof(attr)), "bpf map");
    stay();
}

static void bpf_prog(void)
{
    struct bpf_insn code[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = 0}, {.code = BPF_JMP | BPF_EXIT}};
    union bpf_attr attr = {.prog_type = BPF_PROG_TYPE_SOCKET_FILTER, .insn_cnt = 2};

    attr.insns = (unsigned long)code;
    attr.license = (unsigned long)"GPL";
    need(syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr)), "bpf prog");
    stay();
}

static void uring(void)
{
    char parameters[120] = {0};

    need(syscall(IO_URING_SETUP, 4, parameters), "io_uring");
    stay();
}

static void perf(void)
{
    struct perf_event_attr attr = {.type = PERF_TYPE_SOFTWARE, .size = sizeof(attr), .config = PERF_COUNT_SW_TASK_CLOCK};

    attr.exclude_kernel = 1;
    need(syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0), "perf");
    stay();
}

static void userfault(void)
{
    need(syscall(SYS_userfaultfd, O_CLOEXEC), "userfaultfd");
    stay();
}

static void fsopen_(void)
{
    need(syscall(FSOPEN, "tmpfs", 0), "fsopen");
    stay();
}

static void notifier(void)
{
    struct sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog program = {1, allow};

    need(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
    need(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program), "seccomp");
    stay();
}

static void secret(void)
{
    need(syscall(MEMFD_SECRET, 0), "memfd_secret");
    stay();
}

static void device(void)
{
    need(open(argument, O_RDWR), argument);
    stay();
}

static void fanotify_inode(void)
{
    int watch = need(fanotify_init(FAN_CLASS_NOTIF, O_RDONLY), "fanotify");

    need(fanotify_mark(watch, FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, argument), "fanotify_mark");
    stay();
}

static void fanotify_filesystem(void)
{
    int watch = need(fanotify_init(FAN_CLASS_NOTIF, O_RDONLY), "fanotify");

    need(fanotify_mark(watch, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_OPEN, AT_FDCWD, argument), "fanotify_mark");
    stay();
}

static void inotify(void)
{
    need(inotify_add_watch(need(inotify_init1(0), "inotify"), argument, IN_CREATE), "inotify");
    stay();
}

/* Watch a symbolic link itself at ARGUMENT, as systemd does with /etc/localtime. */
static void watched_link(void)
{
    need(symlink("/etc/workload", argument), "symlink");
    need(inotify_add_watch(need(inotify_init1(0), "inotify"), argument, IN_ATTRIB | IN_DONT_FOLLOW), "watch");
    stay();
}

static void *sleeper(void *unused)
{
    for (;;)
        pause();
    return unused;
}

static void pidfd_thread(void)
{
    need(syscall(PIDFD_OPEN, getpid(), PIDFD_THREAD_FLAG), "pidfd");
    stay();
}

static void opened(void)
{
    need(open(argument, O_RDONLY | O_NONBLOCK), argument);
    stay();
}

static void direct_pipe(void)
{
    int ends[2];

    need(pipe2(ends, O_DIRECT), "pipe");
    stay();
}

static void namespace_file(void)
{
    int file;
    pid_t child = fork();

    if (child == 0) {
        need(unshare(CLONE_NEWNET), "unshare");
        close(need(open("/tmp/moved", O_CREAT, 0644), "moved"));
        for (;;)
            pause();
    }
    while (access("/tmp/moved", F_OK))
        usleep(1000);
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/ns/net", child);
    file = need(open(path, O_RDONLY), path);
    (void)file;
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    stay();
}

/*
 * Terminals
 */

static void slave_alone(void)
{
    int master = need(posix_openpt(O_RDWR | O_NOCTTY), "ptmx");
    char name[64];

    need(grantpt(master), "grantpt");
    need(unlockpt(master), "unlockpt");
    need(ptsname_r(master, name, sizeof(name)), "ptsname");
    need(open(name, O_RDWR | O_NOCTTY), name);
    if (*argument) {
        /* Sent to the host, which keeps it: the master is outside then. */
        struct sockaddr_un there = {.sun_family = AF_UNIX};
        char byte = 0, room[CMSG_SPACE(sizeof(int))] = {0};
        struct iovec vector = {&byte, 1};
        struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof(room)};
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        int link = need(socket(AF_UNIX, SOCK_STREAM, 0), "socket");

        strncpy(there.sun_path, argument, sizeof(there.sun_path) - 1);
        need(connect(link, (struct sockaddr *)&there, sizeof(there)), argument);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(head), &master, sizeof(int));
        need(sendmsg(link, &message, 0), "sendmsg");
        need(read(link, &byte, 1), "answer");
        close(link);
    }
    close(master);
    stay();
}

/*
 * Sockets
 */

static void socket_of(void)
{
    static const struct {
        const char *name;
        int family, type, protocol;
    } known[] = {
        {"vsock", AF_VSOCK, SOCK_STREAM, 0},
        {"alg", AF_ALG, SOCK_SEQPACKET, 0},
        {"xdp", AF_XDP, SOCK_RAW, 0},
        {"mptcp", AF_INET, SOCK_STREAM, 262},
        {"sctp", AF_INET, SOCK_STREAM, 132},
        {"unixraw", AF_UNIX, SOCK_RAW, 0},
    };

    for (unsigned int i = 0; i < sizeof(known) / sizeof(*known); i++)
        if (!strcmp(known[i].name, argument))
            need(socket(known[i].family, known[i].type, known[i].protocol), argument);
    stay();
}

static void netlink_unread(void)
{
    struct sockaddr_nl name = {.nl_family = AF_NETLINK};
    struct {
        struct nlmsghdr head;
        struct rtgenmsg body;
    } question = {{.nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP}, {.rtgen_family = AF_UNSPEC}};
    int link = need(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE), "netlink");
    static char answer[65536];

    question.head.nlmsg_len = sizeof(question);
    need(bind(link, (struct sockaddr *)&name, sizeof(name)), "bind");
    need(send(link, &question, sizeof(question), 0), "send");
    stay_until_told();
    while (recv(link, answer, sizeof(answer), MSG_DONTWAIT) > 0)
        continue;
    stay();
}

static void unix_to(int type)
{
    struct sockaddr_un there = {.sun_family = AF_UNIX};

    strncpy(there.sun_path, argument, sizeof(there.sun_path) - 1);
    need(connect(need(socket(AF_UNIX, type, 0), "socket"), (struct sockaddr *)&there, sizeof(there)), argument);
    stay();
}

static void unix_stream(void) { unix_to(SOCK_STREAM); }

static void unix_dgram(void) { unix_to(SOCK_DGRAM); }

static void corked(void)
{
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = 9};
    int link = need(socket(AF_INET, SOCK_DGRAM, 0), "udp"), on = 1;

    there.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    need(connect(link, (struct sockaddr *)&there, sizeof(there)), "connect");
    need(setsockopt(link, IPPROTO_UDP, 1, &on, sizeof(on)), "cork");
    stay();
}

static void tcp_pair(void)
{
    struct sockaddr_in here = {.sin_family = AF_INET};
    socklen_t size = sizeof(here);
    int listener = need(socket(AF_INET, SOCK_STREAM, 0), "tcp");
    int client = need(socket(AF_INET, SOCK_STREAM, 0), "tcp");

    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    need(bind(listener, (struct sockaddr *)&here, size), "bind");
    need(listen(listener, 5), "listen");
    need(getsockname(listener, (struct sockaddr *)&here, &size), "getsockname");
    need(connect(client, (struct sockaddr *)&here, size), "connect");
    if (*argument)
        stay_until_told();
    need(accept(listener, NULL, NULL), "accept");
    stay();
}

/*
 * Files and memory
 */

static int written(const char *path, int kib)
{
    static char block[1024];
    int file = need(open(path, O_CREAT | O_RDWR | O_TRUNC, 0644), path);

    memset(block, 'x', sizeof(block));
    for (int i = 0; i < kib; i++)
        need(write(file, block, sizeof(block)), path);
    return file;
}

static void ghost(void)
{
    written("/run/ghost", atoi(argument));
    need(unlink("/run/ghost"), "unlink");
    stay();
}

static void ghost_sparse(void)
{
    need(ftruncate(written("/run/ghost", 4), 64 << 20), "ftruncate");
    need(unlink("/run/ghost"), "unlink");
    stay();
}

static void ghost_mapped(void)
{
    int file = written("/run/ghost", atoi(argument));

    mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, file, 0);
    close(file);
    need(unlink("/run/ghost"), "unlink");
    stay();
}

static void hidden_link(void)
{
    written("/run/one", 4);
    need(link("/run/one", "/run/two"), "link");
    need(unlink("/run/one"), "unlink");
    stay();
}

static void replaced(void)
{
    written("/run/old", 4);
    need(mkdir("/run/over", 0755), "mkdir");
    need(open("/run/over", O_RDONLY), "open");
    written("/run/over/file", 4);
    need(mount("none", "/run/over", "tmpfs", 0, NULL), "mount");
    stay();
}

/* The ring of a profiler, mapped still when its descriptor is closed. */
static void mapped_ring(void)
{
    struct perf_event_attr attr = {.type = PERF_TYPE_SOFTWARE, .size = sizeof(attr), .config = PERF_COUNT_SW_TASK_CLOCK};
    int file;

    attr.exclude_kernel = 1;
    file = need(syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0), "perf");
    if (mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) == MAP_FAILED)
        fail("mmap");
    close(file);
    stay();
}

static void locked(void)
{
    need(flock(written("/run/locked", 4), LOCK_EX), "flock");
    stay();
}

static void shared_memory(void)
{
    need(shmget(IPC_PRIVATE, 65536, IPC_CREAT | 0600), "shmget");
    if (shmat(need(shmget(IPC_PRIVATE, 65536, IPC_CREAT | 0600), "shmget"), NULL, 0) == (void *)-1)
        fail("shmat");
    stay();
}

/* A segment that goes with its last user. */
static void removed_segment(void)
{
    int segment = need(shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600), "shmget");

    if (shmat(segment, NULL, 0) == (void *)-1)
        fail("shmat");
    need(shmctl(segment, IPC_RMID, NULL), "shmctl");
    stay();
}

static void hugepages(void)
{
    char *memory = mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);

    if (memory == MAP_FAILED)
        fail("hugetlb");
    *memory = 1;
    stay();
}

static void memory_of(void)
{
    size_t size = (size_t)atoi(argument) << 20;
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    for (size_t at = 0; at < size; at += 512)
        memory[at] = (char)(at >> 9 | 1);
    stay();
}

/*
 * Mounts
 */

static void mounted(const char *type, const char *options)
{
    mkdir("/mnt", 0755);
    need(mount("trouble", "/mnt", type, 0, options), type);
}

static void mount_of(void)
{
    mounted(argument, NULL);
    stay();
}

/* As systemd watches its cgroups. */
static void mounted_watch(void)
{
    mounted(argument, NULL);
    need(inotify_add_watch(need(inotify_init1(0), "inotify"), "/mnt/cgroup.procs", IN_MODIFY), "inotify");
    stay();
}

static void queue(void)
{
    mounted("mqueue", NULL);
    close(need(open("/mnt/queue", O_CREAT | O_RDWR, 0644), "queue"));
    stay();
}

static void queue_descriptor(void)
{
    need(syscall(SYS_mq_open, "queue", O_CREAT | O_RDWR, 0644, NULL), "mq_open");
    stay();
}

static void autofs(void)
{
    char options[128];
    int ends[2];

    need(pipe2(ends, O_DIRECT), "pipe");
    snprintf(options, sizeof(options), "fd=%d,pgrp=%d,minproto=5,maxproto=5,direct", ends[1], getpgrp());
    mounted("autofs", options);
    if (*argument)
        close(ends[0]);
    stay();
}

static void fuse(void)
{
    char options[128];
    int file = need(open("/dev/fuse", O_RDWR), "fuse");

    snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", file);
    mounted("fuse", options);
    if (*argument)
        close(file);
    stay();
}

static void bind_inside(void)
{
    need(mkdir("/run/source", 0755), "mkdir");
    mkdir("/mnt", 0755);
    need(mount("/run/source", "/mnt", NULL, MS_BIND, NULL), "bind");
    stay();
}

/* A bind of a part of a file system whose root is not mounted any more. */
static void bind_orphan(void)
{
    mounted("tmpfs", NULL);
    need(mkdir("/mnt/part", 0755), "mkdir");
    mkdir("/srv", 0755);
    need(mount("/mnt/part", "/srv", NULL, MS_BIND, NULL), "bind");
    need(umount2("/mnt", MNT_DETACH), "umount");
    stay();
}

static void overlay(void)
{
    need(mkdir("/tmp/lower", 0755), "mkdir");
    mounted("overlay", "lowerdir=/run:/tmp/lower");
    if (*argument)
        need(inotify_add_watch(need(inotify_init1(0), "inotify"), "/mnt", IN_CREATE), "inotify");
    stay();
}

/*
 * Namespaces and processes
 */

static void namespaces(void)
{
    static const struct {
        const char *name;
        int flag;
    } known[] = {
        {"uts", CLONE_NEWUTS}, {"ipc", CLONE_NEWIPC},       {"pid", CLONE_NEWPID}, {"user", CLONE_NEWUSER},
        {"net", CLONE_NEWNET}, {"cgroup", CLONE_NEWCGROUP}, {"mnt", CLONE_NEWNS},  {"time", CLONE_NEWTIME},
        {"time_for_children", CLONE_NEWTIME},
    };

    for (unsigned int i = 0; i < sizeof(known) / sizeof(*known); i++)
        if (!strcmp(known[i].name, argument))
            need(unshare(known[i].flag), argument);
    if ((!strcmp(argument, "pid") || !strcmp(argument, "time")) && fork() == 0) {
        /* Its first child is the one that lives in it. */
        for (;;)
            pause();
    }
    stay();
}

/*
 * Two mount namespaces as systemd makes them for services: a mount in each receives from the same file system, but from another
 * directory of it.
 */
static void namespace_roots(void)
{
    need(mount("x", "/run", "tmpfs", 0, "size=64k"), "tmpfs");
    need(mount(NULL, "/run", NULL, MS_SHARED, NULL), "shared");
    for (int i = 0; i < 2; i++) {
        const char *from = i ? "/run/a" : "/run/b";

        need(mkdir(from, 0700), "mkdir");
        if (fork() == 0) {
            need(unshare(CLONE_NEWNS), "unshare");
            need(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL), "slave");
            need(mount(from, "/root", NULL, MS_BIND, NULL), "bind");
            if (*argument)
                need(mount(NULL, "/root", NULL, MS_PRIVATE, NULL), "private");
            need(mount(NULL, "/run", NULL, MS_SHARED, NULL), "shared");
            for (;;)
                pause();
        }
    }
    stay();
}

static void zombie(void)
{
    if (fork() == 0)
        _exit(0);
    stay();
}

static void *late(void *unused)
{
    (void)unused;
    sleep(1);
    stay();
    return NULL;
}

static void zombie_leader(void)
{
    pthread_t thread;

    need(-pthread_create(&thread, NULL, late, NULL), "thread");
    /* The leader alone: exit_group would end the other as well. */
    syscall(SYS_exit, 0);
}

static void traced(void)
{
    pid_t child = fork();

    if (child == 0) {
        prctl(PR_SET_NAME, "tracee");
        sleeper(NULL);
    }
    need(ptrace(PTRACE_SEIZE, child, NULL, NULL), "ptrace");
    stay();
}

static void uninterruptible(void)
{
    ready();
    if (vfork() == 0)
        for (;;)
            pause();
    stay();
}

static void filtered(void)
{
    struct sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog program = {1, allow};

    need(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
    need(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), "seccomp");
    stay();
}

/* Many processes with descriptors and mappings, for the clock. */
static void crowd(void)
{
    for (int i = 0; i < atoi(argument); i++) {
        if (fork() == 0) {
            for (int more = 0; more < 10; more++) {
                eventfd(0, 0);
                socket(AF_INET, SOCK_DGRAM, 0);
                open("/etc/workload", O_RDONLY);
            }
            for (int more = 0; more < 80; more++)
                mmap(NULL, 8192, more % 2 ? PROT_READ : PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            sleeper(NULL);
        }
    }
    stay();
}

static volatile pid_t worker;
static volatile int worker_ends;

static void *works(void *unused)
{
    (void)unused;
    worker = syscall(SYS_gettid);
    while (!worker_ends)
        usleep(1000);
    return NULL;
}

static pthread_t work(void)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, works, NULL))
        fail("pthread_create");
    while (!worker)
        usleep(1000);
    return thread;
}

/* A POSIX timer for: the only thread, the first of two, the other one, one that ends; a clock of a thread, of one that ends. */
static void timer(void)
{
    pthread_t thread = strcmp(argument, "only") == 0 ? pthread_self() : work();
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    struct itimerspec later = {.it_value = {.tv_sec = 1000000}};
    clockid_t which = CLOCK_MONOTONIC;
    timer_t made;

    signal(SIGUSR1, SIG_IGN);
    if (strncmp(argument, "clock", 5) == 0) {
        pthread_getcpuclockid(thread, &which);
    } else if (strcmp(argument, "signal") != 0) {
        event.sigev_notify = SIGEV_THREAD_ID;
        event._sigev_un._tid = strcmp(argument, "only") == 0 || strcmp(argument, "first") == 0 ? getpid() : worker;
    }
    need(timer_create(which, &event, &made), "timer_create");
    need(timer_settime(made, 0, &later, NULL), "timer_settime");
    if (strstr(argument, "ended")) {
        worker_ends = 1;
        pthread_join(thread, NULL);
    }
    stay();
}

static int shares(void *unused)
{
    (void)unused;
    while (pause())
        continue;
    return 0;
}

/* A process with the memory of another one. */
static void shared_address_space(void)
{
    static char stack[65536] __attribute__((aligned(16)));

    need(clone(shares, stack + sizeof(stack), CLONE_VM | SIGCHLD, NULL), "clone");
    stay();
}

static long kib_of_address_space(void)
{
    FILE *stream = fopen("/proc/self/statm", "r");
    long pages;

    if (!stream || fscanf(stream, "%ld", &pages) != 1)
        fail("statm");
    fclose(stream);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* A limit that leaves so many KiB of address space. */
static void little_address_space(void)
{
    rlim_t limit;

    kib_of_address_space();
    limit = (kib_of_address_space() + atol(argument)) * 1024;
    need(setrlimit(RLIMIT_AS, &(struct rlimit){limit, limit}), "setrlimit");
    stay();
}

/* A limit that leaves so many descriptors. */
static void few_descriptors(void)
{
    int next = need(dup(0), "dup");

    close(next);
    ready();
    need(setrlimit(RLIMIT_NOFILE, &(struct rlimit){next + atoi(argument), next + atoi(argument)}), "setrlimit");
    for (;;)
        pause();
}

static void other_user(void)
{
    need(setresgid(1000, 1000, 1000), "setresgid");
    ready();
    need(setresuid(1000, 1000, 1000), "setresuid");
    for (;;)
        pause();
}

/* An open file of a thread: "first/NAME" or "other/NAME". */
static void file_of_a_thread(void)
{
    char path[256];

    work();
    snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", getpid(), strncmp(argument, "first/", 6) == 0 ? getpid() : worker,
             strchr(argument, '/') + 1);
    need(open(path, O_RDONLY), path);
    stay();
}

/* The link-local address of eth0, once the kernel has found nobody else with it. */
static struct sockaddr_in6 link_local_address(void)
{
    struct sockaddr_in6 found = {.sin6_family = AF_INET6, .sin6_port = htons(7006)};
    char text[33], device[17];
    unsigned int index, length, scope, flags;

    for (;; usleep(100000)) {
        FILE *stream = fopen("/proc/net/if_inet6", "r");

        while (stream && fscanf(stream, "%32s %x %x %x %x %16s", text, &index, &length, &scope, &flags, device) == 6) {
            if (strcmp(device, "eth0") || strncmp(text, "fe80", 4) || flags & 0x40)
                continue;
            for (int i = 0; i < 16; i++)
                sscanf(text + 2 * i, "%2hhx", &found.sin6_addr.s6_addr[i]);
            found.sin6_scope_id = index;
            return found;
        }
        if (stream)
            fclose(stream);
    }
}

/* Sockets on the link-local address: TCP "connected", "connecting" to nobody, or "listening"; "udp". */
static void link_local(void)
{
    struct sockaddr_in6 address = link_local_address();
    int one = need(socket(AF_INET6, strcmp(argument, "udp") ? SOCK_STREAM : SOCK_DGRAM, 0), "socket");
    int other = need(socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0), "socket");

    if (strcmp(argument, "connecting") == 0) {
        address.sin6_addr.s6_addr[15] ^= 1;
        if (connect(other, (struct sockaddr *)&address, sizeof(address)) == 0 || errno != EINPROGRESS)
            fail("connect");
        stay();
    }
    need(bind(one, (struct sockaddr *)&address, sizeof(address)), "bind");
    if (strcmp(argument, "udp") != 0)
        need(listen(one, 5), "listen");
    if (strcmp(argument, "connected") == 0) {
        if (connect(other, (struct sockaddr *)&address, sizeof(address)) < 0 && errno != EINPROGRESS)
            fail("connect");
        need(accept(one, NULL, NULL), "accept");
    }
    stay();
}

/* A connection to a Unix socket that is not accepted: "quiet", with "data", or "closed". */
static void unix_queue(void)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "/tmp/queue"};
    int listener = need(socket(AF_UNIX, SOCK_STREAM, 0), "socket");
    int client = need(socket(AF_UNIX, SOCK_STREAM, 0), "socket");

    need(bind(listener, (struct sockaddr *)&name, sizeof(name)), "bind");
    need(listen(listener, 5), "listen");
    need(connect(client, (struct sockaddr *)&name, sizeof(name)), "connect");
    if (strcmp(argument, "data") == 0)
        need(write(client, "x", 1), "write");
    if (strcmp(argument, "closed") == 0)
        close(client);
    stay();
}

static void *apart_from_the_others(void *unused)
{
    (void)unused;
    if (strcmp(argument, "descriptors") == 0) {
        need(unshare(CLONE_FILES), "unshare");
        need(dup2(need(open("/etc/workload", O_RDONLY), "open"), 77), "dup2");
    } else if (strcmp(argument, "net") == 0) {
        need(unshare(CLONE_NEWNET), "unshare");
    } else {
        need(unshare(CLONE_FS), "unshare");
        if (strcmp(argument, "directory") == 0)
            need(chdir("/tmp"), "chdir");
    }
    worker = syscall(SYS_gettid);
    while (pause())
        continue;
    return NULL;
}

/* A thread with a thing of its own: "descriptors", "directory", "state" of the directory that it may change, "net". */
static void thread_apart(void)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, apart_from_the_others, NULL))
        fail("pthread_create");
    while (!worker)
        usleep(1000);
    stay();
}

/* An attribute of a process that CRIU does not keep. */
static void attribute(void)
{
    cpu_set_t cpus;
    FILE *stream;
    int first = 0;

    if (strcmp(argument, "affinity") == 0) {
        need(sched_getaffinity(0, sizeof(cpus), &cpus), "sched_getaffinity");
        if (CPU_COUNT(&cpus) < 2) {
            errno = EOPNOTSUPP;
            fail("one CPU only");
        }
        while (!CPU_ISSET(first, &cpus))
            first++;
        CPU_ZERO(&cpus);
        CPU_SET(first, &cpus);
        need(sched_setaffinity(0, sizeof(cpus), &cpus), "sched_setaffinity");
    } else if (strcmp(argument, "personality") == 0) {
        need(personality(ADDR_NO_RANDOMIZE), "personality");
    } else if (strcmp(argument, "timer-slack") == 0) {
        need(prctl(PR_SET_TIMERSLACK, 123456), "prctl");
    } else {
        stream = fopen("/proc/self/coredump_filter", "w");
        if (!stream || fputs("0x7f", stream) == EOF || fclose(stream))
            fail("coredump_filter");
    }
    stay();
}

/* A listening Unix socket with another name than it was bound to: "renamed", or with none: "unlinked". */
static void unix_name(void)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "/tmp/service.new"};
    int listener = need(socket(AF_UNIX, SOCK_STREAM, 0), "socket");

    need(bind(listener, (struct sockaddr *)&name, sizeof(name)), "bind");
    need(listen(listener, 5), "listen");
    if (strcmp(argument, "renamed") == 0)
        need(rename("/tmp/service.new", "/tmp/service"), "rename");
    else
        need(unlink("/tmp/service.new"), "unlink");
    stay();
}

static void nothing(void) { stay(); }

static const struct {
    const char *name;
    void (*make)(void);
} situations[] = {
    {"nothing", nothing},
    {"ordinary", ordinary},
    {"bpf-map", bpf_map},
    {"bpf-array", bpf_array},
    {"bpf-prog", bpf_prog},
    {"io-uring", uring},
    {"perf", perf},
    {"userfaultfd", userfault},
    {"fsopen", fsopen_},
    {"notifier", notifier},
    {"secret", secret},
    {"device", device},
    {"fanotify", fanotify_inode},
    {"fanotify-fs", fanotify_filesystem},
    {"inotify", inotify},
    {"mounted-watch", mounted_watch},
    {"watched-link", watched_link},
    {"pidfd-thread", pidfd_thread},
    {"opened", opened},
    {"direct-pipe", direct_pipe},
    {"namespace-file", namespace_file},
    {"slave-alone", slave_alone},
    {"socket", socket_of},
    {"netlink-unread", netlink_unread},
    {"unix-stream", unix_stream},
    {"unix-dgram", unix_dgram},
    {"corked", corked},
    {"tcp-pair", tcp_pair},
    {"ghost", ghost},
    {"ghost-sparse", ghost_sparse},
    {"ghost-mapped", ghost_mapped},
    {"hidden-link", hidden_link},
    {"replaced", replaced},
    {"mapped-ring", mapped_ring},
    {"locked", locked},
    {"shared-memory", shared_memory},
    {"removed-segment", removed_segment},
    {"hugepages", hugepages},
    {"memory", memory_of},
    {"mount", mount_of},
    {"queue", queue},
    {"queue-descriptor", queue_descriptor},
    {"autofs", autofs},
    {"fuse", fuse},
    {"bind", bind_inside},
    {"bind-orphan", bind_orphan},
    {"overlay", overlay},
    {"namespace", namespaces},
    {"namespace-roots", namespace_roots},
    {"zombie", zombie},
    {"zombie-leader", zombie_leader},
    {"traced", traced},
    {"uninterruptible", uninterruptible},
    {"filtered", filtered},
    {"crowd", crowd},
    {"link-local", link_local},
    {"unix-queue", unix_queue},
    {"thread-apart", thread_apart},
    {"attribute", attribute},
    {"unix-name", unix_name},
    {"timer", timer},
    {"shared-address-space", shared_address_space},
    {"little-address-space", little_address_space},
    {"few-descriptors", few_descriptors},
    {"other-user", other_user},
    {"file-of-a-thread", file_of_a_thread},
};

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "nothing";

    signal(SIGPIPE, SIG_IGN);
    if (argc > 2)
        argument = argv[2];
    unlink("/tmp/trouble");
    if (fork() == 0) {
        setsid();
        prctl(PR_SET_NAME, what);
        for (unsigned int i = 0; i < sizeof(situations) / sizeof(*situations); i++)
            if (!strcmp(situations[i].name, what))
                situations[i].make();
        errno = ENOSYS;
        fail(what);
    }
    /* Reaps orphans only: it waits for its own child alone, which lives as long as the container. */
    for (;;)
        pause();
}
