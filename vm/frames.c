// The host's side of the guest's ports: what QEMU would put on a wire goes over UNIX sockets in a folder.
//
//   frames FOLDER verify COUNT LENGTH   COUNT frames into each port at once; every one must come out of the other,
//                                       once, byte for byte. Exit status 0 if so.
//   frames FOLDER link PORT on|off      plugs or pulls the cable of a port
#define _GNU_SOURCE
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { PORTS = 2, HEADERS = 42, LENGTH_MIN = 64, LENGTH_MAX = 1514, WINDOW = 256, FLOWS = 64, SECONDS = 30 };

static void die(const char *what)
{
	perror(what);
	exit(2);
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct sockaddr_un in_folder(const char *folder, const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int n = snprintf(address.sun_path, sizeof address.sun_path, "%s/%s", folder, name);
	if (n < 0 || (size_t)n >= sizeof address.sun_path) {
		fprintf(stderr, "%s: path too long for a socket\n", folder);
		exit(2);
	}
	return address;
}

// The socket that stands for port N: QEMU has pN.guest, we have pN.host.
static int open_port(const char *folder, int port)
{
	char name[16];
	snprintf(name, sizeof name, "p%d.host", port);
	struct sockaddr_un ours = in_folder(folder, name);
	snprintf(name, sizeof name, "p%d.guest", port);
	struct sockaddr_un theirs = in_folder(folder, name);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0), size = 4 << 20;
	unlink(ours.sun_path);
	if (fd < 0 || bind(fd, (void *)&ours, sizeof ours) || connect(fd, (void *)&theirs, sizeof theirs))
		die(theirs.sun_path);
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	return fd;
}

static void put16(uint8_t *at, unsigned value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

// Frame `number` for `port`: Ethernet, IPv4, UDP, the port and the number, then a pattern that depends on both.
static void write_frame(uint8_t *frame, size_t length, int port, uint32_t number)
{
	memset(frame, 0, HEADERS);
	memcpy(frame, (uint8_t[]){ 0x52, 0x54, 0, 0x12, 0, (uint8_t)port, 0x02, 0xbb, 0, 0, 0, 1, 0x08, 0 }, 14);
	frame[14] = 0x45;
	put16(frame + 16, (unsigned)length - 14);
	frame[22] = 64;
	frame[23] = 17;
	memcpy(frame + 26, (uint8_t[]){ 10, 0, 0, 1, 10, 0, 0, 2 }, 8);
	uint32_t sum = 0;
	for (int i = 14; i < 34; i += 2)
		sum += (uint32_t)(frame[i] << 8 | frame[i + 1]);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	put16(frame + 24, ~sum);
	put16(frame + 34, 40000 + number % FLOWS);
	put16(frame + 36, 9);
	put16(frame + 38, (unsigned)length - 34);
	frame[HEADERS] = (uint8_t)port;
	memcpy(frame + HEADERS + 1, &number, sizeof number);
	for (size_t i = HEADERS + 5; i < length; i++)
		frame[i] = (uint8_t)(number * 31 + i * 7 + (unsigned)port);
}

struct direction {
	int from, to;     // sockets
	uint32_t sent, arrived, wrong;
	bool *seen;       // by number
};

static bool send_next(struct direction *d, int port, uint32_t count, size_t length)
{
	uint8_t frame[LENGTH_MAX];
	if (d->sent == count || d->sent - d->arrived >= WINDOW)
		return false;
	write_frame(frame, length, port, d->sent);
	if (send(d->from, frame, length, 0) != (ssize_t)length)
		return false;
	d->sent++;
	return true;
}

static bool receive_next(struct direction *d, int port, uint32_t count, size_t length)
{
	uint8_t frame[65536], wanted[LENGTH_MAX];
	uint32_t number;
	ssize_t n = recv(d->to, frame, sizeof frame, 0);
	if (n <= 0)
		return false;
	if (n < LENGTH_MIN || memcmp(frame + 6, (uint8_t[]){ 0x02, 0xbb, 0, 0, 0, 1 }, 6))
		return true; // the guest's kernel talks too
	memcpy(&number, frame + HEADERS + 1, sizeof number);
	write_frame(wanted, length, port, number);
	if ((size_t)n != length || memcmp(frame, wanted, length) || number >= count || d->seen[number]) {
		d->wrong++;
		return true;
	}
	d->seen[number] = true;
	d->arrived++;
	return true;
}

static int verify(const char *folder, uint32_t count, size_t length)
{
	if (length < LENGTH_MIN || length > LENGTH_MAX)
		return 64;
	int fd[PORTS] = { open_port(folder, 0), open_port(folder, 1) };
	struct direction d[PORTS];
	for (int p = 0; p < PORTS; p++) {
		d[p] = (struct direction){ .from = fd[p], .to = fd[!p], .seen = calloc(count, sizeof(bool)) };
		if (!d[p].seen)
			die("memory");
	}
	double start = now();
	while ((d[0].arrived < count || d[1].arrived < count) && now() < start + SECONDS) {
		bool busy = false;
		for (int p = 0; p < PORTS; p++) {
			for (int i = 0; i < 8 && send_next(&d[p], p, count, length); i++)
				busy = true;
			for (int i = 0; i < 32 && receive_next(&d[p], p, count, length); i++)
				busy = true;
		}
		struct pollfd wait[PORTS] = { { fd[0], POLLIN, 0 }, { fd[1], POLLIN, 0 } };
		if (!busy)
			poll(wait, PORTS, 20);
	}
	printf("%u of %u and %u of %u frames of %zu bytes, %u wrong, %.0f frames/s\n", d[0].arrived, count,
	       d[1].arrived, count, length, d[0].wrong + d[1].wrong,
	       (d[0].arrived + d[1].arrived) / (now() - start));
	return d[0].arrived < count || d[1].arrived < count || d[0].wrong || d[1].wrong;
}

// QEMU's monitor reads commands a line each.
static int set_link(const char *folder, const char *port, const char *state)
{
	struct sockaddr_un monitor = in_folder(folder, "monitor");
	char line[64], answer[4096];
	int n = snprintf(line, sizeof line, "set_link n%s %s\n", port, state), fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (fd < 0 || connect(fd, (void *)&monitor, sizeof monitor) || write(fd, line, (size_t)n) != n)
		die(monitor.sun_path);
	struct pollfd wait = { fd, POLLIN, 0 };
	while (poll(&wait, 1, 300) > 0 && read(fd, answer, sizeof answer) > 0)
		;
	printf("port %s: cable %s\n", port, state);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 5 && !strcmp(argv[2], "verify"))
		return verify(argv[1], (uint32_t)strtoul(argv[3], NULL, 10), strtoul(argv[4], NULL, 10));
	if (argc == 5 && !strcmp(argv[2], "link"))
		return set_link(argv[1], argv[3], argv[4]);
	fprintf(stderr, "usage: frames FOLDER verify COUNT LENGTH | link PORT on|off\n");
	return 64;
}
