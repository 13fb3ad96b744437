/*
 * Copyright (c) 2026, The stasis.lxc authors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * An init with a hostile name wherever a container chooses one: open files, mount points, Unix sockets, processes, host.
 * With an argument also a mount point that CRIU cannot read: white space that the kernel does not escape.
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const names[] = {
	"caf\xe9", "\xff\n", "a\x0b\x1c\r\xc2\x85\xe2\x80\xa8z", "\x1b]0;x\x07", " \t- x", "\\012", "\xed\xb3\xbf",
};

static int done(const char *what, int failed)
{
	if (failed) {
		FILE *file = fopen("/tmp/log", "a");

		if (file) {
			fprintf(file, "%s: %m\n", what);
			fclose(file);
		}
	}
	return failed;
}

static void listen_at(const char *path, const char *name)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	/* In the abstract name space also with a NUL in it. */
	size_t head = path[0] ? 0 : 1, size = strlen(name);
	int one = socket(AF_UNIX, SOCK_STREAM, 0);

	if (head) {
		memcpy(at.sun_path + head, name, size);
		memcpy(at.sun_path + head + size, "\0\n", 2);
		size += head + 2;
	} else {
		size = snprintf(at.sun_path, sizeof(at.sun_path), "%s%s", path, name) + 1;
	}
	done("bind", bind(one, (struct sockaddr *)&at, offsetof(struct sockaddr_un, sun_path) + size));
	done("listen", listen(one, 1));
}

int main(int count, char **words)
{
	char path[256];

	if (count > 1) {
		done("mkdir", mkdir("/run/\xff\x1b\r", 0700));
		done("mount", mount("x", "/run/\xff\x1b\r", "tmpfs", 0, NULL));
	}
	done("sethostname", sethostname("host\xff\x1b", 6));
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "/tmp/file-%s", names[i]);
		done("open", open(path, O_CREAT | O_RDWR, 0600) < 0);
		snprintf(path, sizeof(path), "/tmp/gone-%s", names[i]);
		done("open", open(path, O_CREAT | O_RDWR, 0600) < 0);
		done("unlink", unlink(path));
		if (!strpbrk(names[i], "\v\f\r\n")) {
			snprintf(path, sizeof(path), "/run/%s", names[i]);
			done("mkdir", mkdir(path, 0700) && access(path, F_OK));
			done("mount", mount(names[i], path, "tmpfs", 0, "size=16k"));
		}
		listen_at("/run/socket-", names[i]);
		listen_at("", names[i]);
		if (fork() == 0) {
			prctl(PR_SET_NAME, names[i]);
			if (count > 0)
				strncpy(words[0], names[i], strlen(words[0]));
			for (;;)
				pause();
		}
	}
	if (access("/tmp/log", F_OK))
		fclose(fopen("/tmp/hostile", "w"));
	for (;;)
		if (wait(NULL) < 0)
			pause();
}
