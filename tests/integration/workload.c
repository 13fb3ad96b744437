/*
 * Copyright (c) 2026, The stasis.lxc authors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * What the containers of the integration tests run: one static program, also as their init.
 *
 *   workload init          runs each line of /etc/workload as a command of this program, and reaps
 *   workload counter PORT  counts in /tmp/counter, twenty times a second, and serves TCP (see serve())
 *   workload counter6 PORT the same over IPv6 (and IPv4)
 *   workload loopback      sends itself verified bytes over 127.0.0.1; /tmp/loopback: `BYTES ERRORS CONNECTIONS`
 *   workload files         holds locks, deleted files, pipes and more; checks them when asked
 *   workload memory MIB    holds memory with a pattern; checks it when asked
 *   workload forker        forks short-lived children all the time; /tmp/forker: `CHILDREN ERRORS`
 *
 * `asked` is: /tmp/WORD.ask appears. The answer is /tmp/WORD.answer, `ok` or what is wrong.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A prime, so that no shift by whole buffers or segments goes unseen. The tests make the same bytes. */
#define PERIOD 65521
#define BLOCK 65536

static unsigned char pattern[PERIOD + BLOCK];

static void make_pattern(void)
{
    unsigned int state = 1;

    for (int i = 0; i < PERIOD + BLOCK; i++) {
        if (i >= PERIOD) {
            pattern[i] = pattern[i - PERIOD];
            continue;
        }
        state = state * 1103515245u + 12345u;
        pattern[i] = (state >> 16) & 0xff;
    }
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void pause_ms(long ms)
{
    struct timespec wait = {ms / 1000, (ms % 1000) * 1000000};

    nanosleep(&wait, NULL);
}

static void __attribute__((format(printf, 2, 3))) write_text(const char *path, const char *format, ...)
{
    char part[256];
    FILE *stream;
    va_list args;

    snprintf(part, sizeof(part), "%s.part", path);
    stream = fopen(part, "w");
    if (!stream)
        die(part);
    va_start(args, format);
    vfprintf(stream, format, args);
    va_end(args);
    fclose(stream);
    if (rename(part, path))
        die(path);
}

static int asked(const char *word)
{
    char path[64];

    snprintf(path, sizeof(path), "/tmp/%s.ask", word);
    return unlink(path) == 0;
}

/* counter */

struct client {
    int fd;
    enum { TALK, ECHO, STREAM } mode;
    char line[64];
    int filled;
    unsigned char held[BLOCK];
    int held_from, held_to;
    unsigned long long sent;
};

static int listen_on(int port, int family)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 address6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if ((family == AF_INET6 ? bind(fd, (struct sockaddr *)&address6, sizeof(address6))
                            : bind(fd, (struct sockaddr *)&address, sizeof(address))) ||
        listen(fd, 16))
        die("listen");
    return fd;
}

/* Moves what it can for one client; -1 when it has gone. Commands, a letter and a newline:
 * G: answers `COUNTER ACCEPTS`. E: from here on every byte comes back. S: from here on the pattern is sent. */
static int serve(struct client *c, unsigned long counter, unsigned long accepts)
{
    if (c->mode == STREAM) {
        for (int round = 0; round < 4; round++) {
            ssize_t n = send(c->fd, pattern + c->sent % PERIOD, BLOCK, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (n < 0)
                return errno == EAGAIN ? 0 : -1;
            c->sent += n;
        }
        return 0;
    }
    if (c->mode == ECHO) {
        if (c->held_from == c->held_to) {
            ssize_t n = recv(c->fd, c->held, BLOCK, MSG_DONTWAIT);
            if (n == 0 || (n < 0 && errno != EAGAIN))
                return -1;
            c->held_from = 0;
            c->held_to = n < 0 ? 0 : n;
        }
        while (c->held_from < c->held_to) {
            ssize_t n = send(c->fd, c->held + c->held_from, c->held_to - c->held_from, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (n < 0)
                return errno == EAGAIN ? 0 : -1;
            c->held_from += n;
        }
        return 0;
    }
    for (;;) {
        char letter, answer[64];
        ssize_t n = recv(c->fd, &letter, 1, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN))
            return -1;
        if (n < 0)
            return 0;
        if (letter != '\n') {
            c->line[0] = letter;
            continue;
        }
        if (c->line[0] == 'E' || c->line[0] == 'S') {
            c->mode = c->line[0] == 'E' ? ECHO : STREAM;
            return 0;
        }
        n = snprintf(answer, sizeof(answer), "%lu %lu\n", counter, accepts);
        if (send(c->fd, answer, n, MSG_NOSIGNAL) != n)
            return -1;
    }
}

static long long now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static void __attribute__((noreturn)) run_counter(int port, int family)
{
    static struct client clients[16];
    int listener = listen_on(port, family), count = 0;
    unsigned long counter = 0, accepts = 0;
    long long next = now_ms();

    for (;;) {
        struct pollfd fds[17] = {{.fd = listener, .events = POLLIN}};

        for (int i = 0; i < count; i++) {
            struct client *c = &clients[i];
            int want_out = c->mode == STREAM || (c->mode == ECHO && c->held_from < c->held_to);
            fds[i + 1] = (struct pollfd){.fd = c->fd, .events = want_out ? POLLOUT : POLLIN};
        }
        poll(fds, count + 1, 10);
        if (now_ms() >= next) {
            next = now_ms() + 50;
            write_text("/tmp/counter", "%lu\n", ++counter);
        }
        for (int i = count - 1; i >= 0; i--) {
            if (fds[i + 1].revents && serve(&clients[i], counter, accepts) < 0) {
                close(clients[i].fd);
                clients[i] = clients[--count];
            }
        }
        if (fds[0].revents && count < 16) {
            int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (fd >= 0) {
                memset(&clients[count], 0, sizeof(clients[count]));
                clients[count++].fd = fd;
                accepts++;
            }
        }
    }
}

/* loopback */

static volatile unsigned long long received, wrong;

static void *receive_all(void *arg)
{
    int fd = *(int *)arg;
    static unsigned char got[BLOCK];

    for (;;) {
        ssize_t n = recv(fd, got, sizeof(got), 0);
        if (n <= 0) {
            wrong += 1000000;
            return NULL;
        }
        if (memcmp(got, pattern + received % PERIOD, n))
            wrong++;
        received += n;
        pause_ms(1);
    }
}

static void *send_all(void *arg)
{
    int fd = *(int *)arg;
    unsigned long long sent = 0;

    for (;;) {
        ssize_t n = send(fd, pattern + sent % PERIOD, BLOCK, MSG_NOSIGNAL);
        if (n <= 0) {
            wrong += 1000000;
            return NULL;
        }
        sent += n;
    }
}

static void __attribute__((noreturn)) run_loopback(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(7001), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = listen_on(7001, AF_INET), out = socket(AF_INET, SOCK_STREAM, 0), in, extra = 0;
    pthread_t one, two;

    if (connect(out, (struct sockaddr *)&address, sizeof(address)))
        die("connect");
    in = accept(listener, NULL, NULL);
    pthread_create(&one, NULL, receive_all, &in);
    pthread_create(&two, NULL, send_all, &out);
    for (;;) {
        if (accept(listener, NULL, NULL) >= 0)
            extra++;
        write_text("/tmp/loopback", "%llu %llu %d\n", received, wrong, 1 + extra);
        pause_ms(30);
    }
}

/* files */

static volatile unsigned long ticks[3];
static volatile int event_seen;

static void *__attribute__((noreturn)) tick(void *arg)
{
    for (;;) {
        (*(volatile unsigned long *)arg)++;
        pause_ms(10);
    }
}

static void *wait_event(void *arg)
{
    uint64_t value;

    if (read(*(int *)arg, &value, sizeof(value)) == sizeof(value))
        event_seen = (int)value;
    return NULL;
}

static char problems[4096];

static void __attribute__((format(printf, 2, 3))) expect(int right, const char *format, ...)
{
    size_t used = strlen(problems);
    va_list args;

    if (right)
        return;
    va_start(args, format);
    vsnprintf(problems + used, sizeof(problems) - used, format, args);
    va_end(args);
    strncat(problems, "; ", sizeof(problems) - strlen(problems) - 1);
}

static int make_file(const char *path, const char *text)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        die(path);
    return fd;
}

static int holds(int fd, const char *text)
{
    char got[256] = "";

    return pread(fd, got, sizeof(got) - 1, 0) == (ssize_t)strlen(text) && !strcmp(got, text);
}

/* Whether another process is kept out by both locks. */
static int locked_out(void)
{
    int status;
    pid_t child = fork();

    if (!child) {
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 5};
        int posix = open("/tmp/files/posix", O_RDWR), bsd = open("/tmp/files/bsd", O_RDWR);
        int bad = 0;

        if (fcntl(posix, F_GETLK, &lock) || lock.l_type == F_UNLCK || lock.l_pid != getppid())
            bad |= 1;
        if (!flock(bsd, LOCK_EX | LOCK_NB) || errno != EWOULDBLOCK)
            bad |= 2;
        _exit(bad);
    }
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}

static void __attribute__((noreturn)) run_files(void)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 5};
    /* Not to expire: CRIU takes a periodic timer that expired and was not read yet for one that is off. */
    struct itimerspec every = {{3600, 0}, {3600, 0}}, last;
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "/tmp/files/socket"};
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = 42};
    int pair[2], pipes[2], watch, posix, bsd, ghost, linked, events, timer, listener, poller, fifo;
    unsigned long *shared, *forked, before[3];
    pthread_t thread;
    pid_t child, waiter;

    mkdir("/tmp/files", 0755);
    mkdir("/tmp/files/watched", 0755);
    posix = make_file("/tmp/files/posix", "a file of thirty-two bytes 456789");
    if (fcntl(posix, F_SETLK, &lock))
        die("fcntl");
    bsd = make_file("/tmp/files/bsd", "bsd");
    if (flock(bsd, LOCK_EX))
        die("flock");
    ghost = make_file("/tmp/files/ghost", "deleted, but open");
    unlink("/tmp/files/ghost");
    linked = make_file("/tmp/files/name1", "one of two names deleted");
    link("/tmp/files/name1", "/tmp/files/name2");
    unlink("/tmp/files/name1");
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    if (write(pair[0], "bytes in a socket pair", 22) != 22 || pipe(pipes) || write(pipes[1], "bytes in a pipe", 15) != 15)
        die("pair");
    mkfifo("/tmp/files/fifo", 0600);
    fifo = open("/tmp/files/fifo", O_RDWR);
    if (write(fifo, "bytes in a fifo", 15) != 15)
        die("fifo");
    watch = inotify_init1(IN_NONBLOCK);
    if (inotify_add_watch(watch, "/tmp/files/watched", IN_CREATE) < 0)
        die("inotify");
    events = eventfd(0, 0);
    timer = timerfd_create(CLOCK_MONOTONIC, 0);
    timerfd_settime(timer, 0, &every, NULL);
    last = every;
    unlink(name.sun_path);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (bind(listener, (struct sockaddr *)&name, sizeof(name)) || listen(listener, 4))
        die("unix");
    poller = epoll_create1(0);
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    forked = shared + 1;
    for (int i = 0; i < 3; i++)
        pthread_create(&thread, NULL, tick, (void *)&ticks[i]);
    pthread_create(&thread, NULL, wait_event, &events);
    child = fork();
    if (!child) {
        for (;;) {
            ++*forked;
            pause_ms(10);
        }
    }
    /* Another child, which only waits. */
    waiter = fork();
    if (!waiter)
        for (;;)
            pause_ms(1000);
    *shared = 77;
    pause_ms(50);
    write_text("/tmp/files.ready", "%d\n", (int)getpid());

    for (;;) {
        pause_ms(20);
        if (!asked("files"))
            continue;
        problems[0] = 0;
        char got[64] = "";
        int bad = locked_out(), client;
        unsigned long forked_before = *forked;
        struct itimerspec rest;
        struct epoll_event seen = {0};

        expect(!(bad & 1), "the fcntl lock is lost");
        expect(!(bad & 2), "the flock lock is lost");
        expect(holds(ghost, "deleted, but open"), "the deleted file has other content");
        expect(access("/tmp/files/ghost", F_OK), "the deleted file has its name again");
        expect(holds(linked, "one of two names deleted"), "the renamed file has other content");
        expect(access("/tmp/files/name1", F_OK) && !access("/tmp/files/name2", F_OK), "the names of the linked file changed");
        struct stat one = {0}, two = {0};
        fstat(linked, &one);
        stat("/tmp/files/name2", &two);
        expect(one.st_ino == two.st_ino, "the linked file is another one");
        expect(one.st_nlink == 1, "the linked file has %d names", (int)one.st_nlink);
        expect(read(pair[1], got, sizeof(got)) == 22 && !memcmp(got, "bytes in a socket pair", 22), "the socket pair lost its bytes");
        expect(write(pair[0], got, 22) == 22, "the socket pair is broken");
        expect(read(pipes[0], got, sizeof(got)) == 15 && !memcmp(got, "bytes in a pipe", 15), "the pipe lost its bytes");
        expect(write(pipes[1], "bytes in a pipe", 15) == 15, "the pipe is broken");
        expect(read(fifo, got, sizeof(got)) == 15 && !memcmp(got, "bytes in a fifo", 15), "the fifo lost its bytes");
        expect(write(fifo, "bytes in a fifo", 15) == 15, "the fifo is broken");

        unlink("/tmp/files/watched/new");
        close(make_file("/tmp/files/watched/new", "x"));
        char raw[512] __attribute__((aligned(8)));
        ssize_t n = read(watch, raw, sizeof(raw));
        expect(n > 0 && !strcmp(((struct inotify_event *)raw)->name, "new"), "inotify saw nothing");
        while (read(watch, raw, sizeof(raw)) > 0)
            ;

        for (int i = 0; i < 3; i++)
            before[i] = ticks[i];
        /* A busy machine may leave them waiting for their turn. */
        for (int tries = 0; tries < 100; tries++) {
            pause_ms(60);
            if (ticks[0] > before[0] && ticks[1] > before[1] && ticks[2] > before[2] && *forked > forked_before)
                break;
        }
        for (int i = 0; i < 3; i++)
            expect(ticks[i] > before[i], "thread %d stands still", i);
        expect(*shared == 77, "the shared memory has other content");
        expect(*forked > forked_before, "the child stands still");
        expect(!kill(waiter, 0) && !waitpid(waiter, NULL, WNOHANG), "a child is gone");
        timerfd_gettime(timer, &rest);
        expect(rest.it_interval.tv_sec == 3600, "the timer has another interval");
        expect(rest.it_value.tv_sec > 600 && rest.it_value.tv_sec <= last.it_value.tv_sec, "the timer stands still");
        last = rest;
        if (!event_seen) {
            eventfd_write(events, 5);
            for (int tries = 0; !event_seen && tries < 100; tries++)
                pause_ms(20);
        }
        expect(event_seen == 5, "the thread that waits for the eventfd does not");
        client = socket(AF_UNIX, SOCK_STREAM, 0);
        expect(!connect(client, (struct sockaddr *)&name, sizeof(name)), "the unix listener is gone");
        expect(epoll_wait(poller, &seen, 1, 1000) == 1 && seen.data.u32 == 42, "epoll saw nothing");
        close(accept(listener, NULL, NULL));
        close(client);
        write_text("/tmp/files.answer", "%s\n", problems[0] ? problems : "ok");
    }
}

/* memory */

static void __attribute__((noreturn)) run_memory(long mib)
{
    size_t size = (size_t)mib << 20;
    unsigned char *held = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (held == MAP_FAILED)
        die("mmap");
    for (size_t i = 0; i < size; i += 4096)
        memcpy(held + i, pattern + (i / 4096) % PERIOD, 4096);
    write_text("/tmp/memory.ready", "%ld\n", mib);
    for (;;) {
        size_t bad = 0;

        pause_ms(20);
        if (!asked("memory"))
            continue;
        for (size_t i = 0; i < size; i += 4096)
            bad += memcmp(held + i, pattern + (i / 4096) % PERIOD, 4096) != 0;
        if (bad)
            write_text("/tmp/memory.answer", "%zu pages differ\n", bad);
        else
            write_text("/tmp/memory.answer", "ok\n");
    }
}

/* forker */

static void __attribute__((noreturn)) run_forker(void)
{
    unsigned long children = 0, errors = 0;
    int alive = 0, status;
    long long next = 0;

    for (;;) {
        while (alive < 6) {
            pid_t child = fork();
            if (child < 0) {
                errors++;
                break;
            }
            if (!child) {
                pause_ms(children % 5);
                _exit(7);
            }
            children++;
            alive++;
        }
        if (wait(&status) > 0) {
            alive--;
            errors += !WIFEXITED(status) || WEXITSTATUS(status) != 7;
        }
        if (now_ms() > next) {
            next = now_ms() + 50;
            write_text("/tmp/forker", "%lu %lu\n", children, errors);
        }
        pause_ms(2);
    }
}

/* init */

static int run(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "";
    long number = argc > 2 ? atol(argv[2]) : 0;

    make_pattern();
    if (!strcmp(word, "counter"))
        run_counter((int)number, AF_INET);
    if (!strcmp(word, "counter6"))
        run_counter((int)number, AF_INET6);
    if (!strcmp(word, "loopback"))
        run_loopback();
    if (!strcmp(word, "files"))
        run_files();
    if (!strcmp(word, "memory"))
        run_memory(number);
    if (!strcmp(word, "forker"))
        run_forker();
    fprintf(stderr, "workload: what is %s?\n", word);
    return 2;
}

static volatile sig_atomic_t ended;

static void end(int signal)
{
    (void)signal;
    ended = 1;
}

static int run_init(void)
{
    char line[256];
    FILE *stream;
    struct sigaction action = {.sa_handler = end};
    /* What LXC gave was opened outside of the container. */
    int null = open("/dev/null", O_RDONLY), log = open("/tmp/log", O_WRONLY | O_CREAT | O_APPEND, 0644);

    dup2(null, 0);
    dup2(log, 1);
    dup2(log, 2);
    close(null);
    close(log);
    sigaction(SIGPWR, &action, NULL);
    stream = fopen("/etc/workload", "r");
    if (!stream)
        die("/etc/workload");
    while (fgets(line, sizeof(line), stream)) {
        char *argv[8] = {"workload"};
        int argc = 1;

        for (char *word = strtok(line, " \n"); word && argc < 7; word = strtok(NULL, " \n"))
            argv[argc++] = word;
        if (argc > 1 && !fork()) {
            fclose(stream);
            exit(run(argc, argv));
        }
    }
    fclose(stream);
    while (!ended) {
        if (wait(NULL) < 0)
            pause_ms(20);
    }
    return 0;
}

int main(int argc, char **argv)
{
    umask(022);
    if (argc > 1 && !strcmp(argv[1], "init"))
        return run_init();
    return run(argc, argv);
}
