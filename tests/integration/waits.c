/*
 * Copyright (c) 2026, The stasis.lxc authors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * An init whose children each wait in one system call, with an hour's timeout where the call has one. A child whose call
 * comes back writes what it said to /tmp/NAME.back: `ok`, or the name of errno. One that waits on writes nothing.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HOUR 3600

static const struct timespec hour = { HOUR, 0 };
static int word;

static struct timespec in_an_hour(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	now.tv_sec += HOUR;
	return now;
}

static int a_pipe(void)
{
	int ends[2];

	return pipe(ends) ? -1 : ends[0];
}

static int full_pipe(void)
{
	char page[4096] = "";
	int ends[2];

	if (pipe2(ends, O_NONBLOCK))
		return -1;
	while (write(ends[1], page, sizeof(page)) > 0)
		;
	fcntl(ends[1], F_SETFL, 0);
	return ends[1];
}

static int a_socket(int type, int option, long seconds)
{
	struct timeval limit = { seconds, 0 };
	int ends[2];

	if (socketpair(AF_UNIX, type, 0, ends))
		return -1;
	if (seconds)
		setsockopt(ends[0], SOL_SOCKET, option, &limit, sizeof(limit));
	return ends[0];
}

static int full_socket(long seconds)
{
	char page[4096] = "";
	int one = a_socket(SOCK_STREAM, SO_SNDTIMEO, seconds);

	while (send(one, page, sizeof(page), MSG_DONTWAIT) > 0)
		;
	return one;
}

static int a_listener(long seconds)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	struct timeval limit = { seconds, 0 };
	int one = socket(AF_UNIX, SOCK_STREAM, 0);

	bind(one, (struct sockaddr *)&name, sizeof(name.sun_family));
	listen(one, 1);
	if (seconds)
		setsockopt(one, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return one;
}

static long waits_poll(void) { struct pollfd one = { a_pipe(), POLLIN, 0 }; return syscall(SYS_poll, &one, 1, HOUR * 1000); }
static long waits_poll_forever(void) { struct pollfd one = { a_pipe(), POLLIN, 0 }; return syscall(SYS_poll, &one, 1, -1); }
static long waits_ppoll(void) { struct pollfd one = { a_pipe(), POLLIN, 0 }; return ppoll(&one, 1, &hour, NULL); }

static long waits_select(void)
{
	struct timeval limit = { HOUR, 0 };
	int end = a_pipe();
	fd_set set;

	FD_ZERO(&set);
	FD_SET(end, &set);
	return select(end + 1, &set, NULL, NULL, &limit);
}

static long waits_pselect(void)
{
	int end = a_pipe();
	fd_set set;

	FD_ZERO(&set);
	FD_SET(end, &set);
	return pselect(end + 1, &set, NULL, NULL, &hour, NULL);
}

static int an_epoll(void)
{
	struct epoll_event event = { .events = EPOLLIN };
	int one = epoll_create1(0);

	epoll_ctl(one, EPOLL_CTL_ADD, a_pipe(), &event);
	return one;
}

static long waits_epoll_wait(void) { struct epoll_event event; return epoll_wait(an_epoll(), &event, 1, HOUR * 1000); }
static long waits_epoll_wait_forever(void) { struct epoll_event event; return epoll_wait(an_epoll(), &event, 1, -1); }
static long waits_epoll_pwait(void) { struct epoll_event event; return epoll_pwait(an_epoll(), &event, 1, HOUR * 1000, NULL); }
static long waits_futex(void) { return syscall(SYS_futex, &word, FUTEX_WAIT, 0, &hour, NULL, 0); }
static long waits_futex_forever(void) { return syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0); }

static long waits_futex_bitset(void)
{
	struct timespec end = in_an_hour(CLOCK_MONOTONIC);

	return syscall(SYS_futex, &word, FUTEX_WAIT_BITSET, 0, &end, NULL, FUTEX_BITSET_MATCH_ANY);
}

static long waits_sem_timedwait(void)
{
	struct timespec end = in_an_hour(CLOCK_REALTIME);
	sem_t one;

	sem_init(&one, 0, 0);
	return sem_timedwait(&one, &end);
}

static long waits_sem_wait(void) { sem_t one; sem_init(&one, 0, 0); return sem_wait(&one); }

static long waits_pthread_cond_timedwait(void)
{
	struct timespec end = in_an_hour(CLOCK_REALTIME);
	pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t one = PTHREAD_COND_INITIALIZER;

	pthread_mutex_lock(&mutex);
	errno = pthread_cond_timedwait(&one, &mutex, &end);
	return errno ? -1 : 0;
}

static long waits_pthread_mutex_timedlock(void)
{
	struct timespec end = in_an_hour(CLOCK_REALTIME);
	pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

	pthread_mutex_lock(&mutex);
	errno = pthread_mutex_timedlock(&mutex, &end);
	return errno ? -1 : 0;
}

static long waits_nanosleep(void) { return nanosleep(&hour, NULL); }
static long waits_sleep(void) { return sleep(HOUR) ? (errno = EINTR, -1) : 0; }
static long waits_clock_nanosleep(void) { errno = clock_nanosleep(CLOCK_MONOTONIC, 0, &hour, NULL); return errno ? -1 : 0; }

static long waits_clock_nanosleep_until(void)
{
	struct timespec end = in_an_hour(CLOCK_MONOTONIC);

	errno = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL);
	return errno ? -1 : 0;
}

static long waits_recv(void) { char one; return recv(a_socket(SOCK_STREAM, SO_RCVTIMEO, HOUR), &one, 1, 0); }
static long waits_recv_forever(void) { char one; return recv(a_socket(SOCK_STREAM, SO_RCVTIMEO, 0), &one, 1, 0); }
static long waits_read_of_socket(void) { char one; return read(a_socket(SOCK_STREAM, SO_RCVTIMEO, HOUR), &one, 1); }

static long waits_udp_recv(void)
{
	struct timeval limit = { HOUR, 0 };
	int one = socket(AF_INET, SOCK_DGRAM, 0);
	char byte;

	setsockopt(one, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return recv(one, &byte, 1, 0);
}

static long waits_recvmmsg(void)
{
	struct timespec limit = hour;
	struct mmsghdr one = { 0 };
	char byte;
	struct iovec part = { &byte, 1 };

	one.msg_hdr.msg_iov = &part;
	one.msg_hdr.msg_iovlen = 1;
	return recvmmsg(a_socket(SOCK_DGRAM, SO_RCVTIMEO, 0), &one, 1, 0, &limit);
}

static long waits_send(void) { return send(full_socket(HOUR), "x", 1, 0); }
static long waits_accept(void) { return accept(a_listener(HOUR), NULL, NULL); }
static long waits_accept_forever(void) { return accept(a_listener(0), NULL, NULL); }
static long waits_read_of_pipe(void) { char one; return read(a_pipe(), &one, 1); }
static long waits_write_of_pipe(void) { return write(full_pipe(), "x", 1); }
static long waits_read_of_eventfd(void) { eventfd_t one; return read(eventfd(0, 0), &one, sizeof(one)); }

static long waits_read_of_timerfd(void)
{
	struct itimerspec in = { .it_value = hour };
	int one = timerfd_create(CLOCK_MONOTONIC, 0);
	long long times;

	timerfd_settime(one, 0, &in, NULL);
	return read(one, &times, sizeof(times));
}

static long waits_read_of_inotify(void)
{
	char event[4096];
	int one = inotify_init1(0);

	inotify_add_watch(one, "/etc", IN_CREATE);
	return read(one, event, sizeof(event));
}

static long waits_sigtimedwait(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return sigtimedwait(&set, NULL, &hour);
}

static long waits_sigwaitinfo(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return sigwaitinfo(&set, NULL);
}

static long waits_pause(void) { return pause(); }

static long waits_wait4(void)
{
	pid_t child = fork();

	if (child == 0)
		for (;;)
			pause();
	return waitpid(child, NULL, 0);
}

static long waits_flock(void)
{
	int first = open("/tmp/flock", O_CREAT | O_RDWR, 0600), second = open("/tmp/flock", O_RDWR);

	flock(first, LOCK_EX);
	return flock(second, LOCK_EX);
}

static long waits_msgrcv(void)
{
	struct { long type; char text[1]; } one;

	return msgrcv(msgget(IPC_PRIVATE, 0600), &one, 1, 0, 0);
}

static long waits_semtimedop(void)
{
	struct sembuf down = { 0, -1, 0 };

	return semtimedop(semget(IPC_PRIVATE, 1, 0600), &down, 1, &hour);
}

static long waits_semop(void)
{
	struct sembuf down = { 0, -1, 0 };

	return semop(semget(IPC_PRIVATE, 1, 0600), &down, 1);
}

static const struct { const char *name; long (*wait)(void); } calls[] = {
#define CALL(name) { #name, waits_##name }
	CALL(poll), CALL(poll_forever), CALL(ppoll), CALL(select), CALL(pselect),
	CALL(epoll_wait), CALL(epoll_wait_forever), CALL(epoll_pwait),
	CALL(futex), CALL(futex_forever), CALL(futex_bitset), CALL(sem_timedwait), CALL(sem_wait),
	CALL(pthread_cond_timedwait), CALL(pthread_mutex_timedlock),
	CALL(nanosleep), CALL(sleep), CALL(clock_nanosleep), CALL(clock_nanosleep_until),
	CALL(recv), CALL(recv_forever), CALL(read_of_socket), CALL(udp_recv), CALL(recvmmsg),
	CALL(send), CALL(accept), CALL(accept_forever),
	CALL(read_of_pipe), CALL(write_of_pipe), CALL(read_of_eventfd), CALL(read_of_timerfd), CALL(read_of_inotify),
	CALL(sigtimedwait), CALL(sigwaitinfo), CALL(pause), CALL(wait4), CALL(flock),
	CALL(msgrcv), CALL(semtimedop), CALL(semop),
};

static void note(const char *name, const char *end, const char *text)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "/tmp/%s.%s", name, end);
	file = fopen(path, "w");
	if (file) {
		fputs(text, file);
		fclose(file);
	}
}

int main(void)
{
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		note(calls[i].name, "waits", "");
		if (fork() == 0) {
			long found = calls[i].wait();

			note(calls[i].name, "back", found < 0 ? strerrorname_np(errno) : "ok");
			for (;;)
				pause();
		}
	}
	fclose(fopen("/tmp/waits", "w"));
	for (;;)
		if (wait(NULL) < 0)
			pause();
}
