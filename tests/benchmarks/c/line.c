/* A far line between two network namespaces, for kernels without netem.
 *
 *   line THERE_MS BACK_MS LOSS_PER_MILLE SEED QUEUE_PACKETS CONGESTION_CONTROL
 *
 * Creates the namespaces "near" (10.99.0.1) and "far" (10.99.0.2), each with a TUN device that leads to the other, and prints
 * "PID NEAR_FD FAR_FD": /proc/PID/fd/NEAR_FD is the namespace to enter. Packets to far arrive THERE_MS later and packets to
 * near BACK_MS later, in order; in both directions LOSS_PER_MILLE of them are lost, the same ones for the same SEED and traffic.
 * At most QUEUE_PACKETS are under way in a direction; more are lost, as in a router. When its standard input ends it prints
 * one JSON object that counts packets, and by how much one was late at most, and exits; the namespaces end with it and with the processes inside.
 *
 * One thread per direction, with real-time priority where permitted. Writing a packet into a TUN device runs the receiver's TCP, so that time counts for the line.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MTU 1500
#define BATCH 64             /* packets read before due ones are written again */
#define DEVICE_PACKETS 50000 /* that wait for a thread; more are dropped, and counted as "dropped" */
#define CONGESTION_CONTROL "/proc/sys/net/ipv4/tcp_congestion_control"

struct packet {
    uint64_t due; /* nanoseconds */
    ssize_t size;
    uint8_t data[MTU];
};

struct direction {
    const char *name;
    int namespace, device, peer; /* namespace and device that packets come from, and the device they go to */
    uint64_t delay, random;      /* nanoseconds; state of the random numbers */
    struct packet *queue;
    size_t head, tail; /* packets ever put in and taken out */
    uint64_t lost, overflowed, latest; /* latest: nanoseconds by which a packet was late, at most */
};

static size_t queue_packets;
static unsigned loss_per_mille;

static void fail(const char *what) {
    fprintf(stderr, "line: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t nanoseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* xorshift64* */
static uint64_t next_random(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545F4914F6CDD1D;
}

static int open_namespace(void) {
    int fd = open("/proc/thread-self/ns/net", O_RDONLY);
    if (fd < 0) fail("/proc/thread-self/ns/net");
    return fd;
}

/* A namespace takes over this setting from the machine when it is made, and may choose only what the machine allows others.
 * So the machine's setting changes for the moment in which both are made, unless it fits; the lock keeps two lines apart. The
 * file is opened before: later it would be that of a namespace. */
static void make_namespaces(const char *congestion_control, int *near, int *far) {
    char before[64] = "";
    size_t length = strlen(congestion_control);
    int fd = open(CONGESTION_CONTROL, O_RDONLY), writable = -1;
    if (fd < 0 || flock(fd, LOCK_EX) < 0 || read(fd, before, sizeof before - 1) <= 0) fail(CONGESTION_CONTROL);
    before[strcspn(before, "\n")] = 0;
    if (strcmp(before, congestion_control)) {
        writable = open(CONGESTION_CONTROL, O_WRONLY);
        if (writable < 0 || pwrite(writable, congestion_control, length, 0) != (ssize_t)length) fail(congestion_control);
    }
    int made = unshare(CLONE_NEWNET);
    if (!made) *near = open_namespace(), made = unshare(CLONE_NEWNET);
    int error = errno;
    if (writable >= 0 && pwrite(writable, before, strlen(before), 0) < 0) fail(CONGESTION_CONTROL);
    close(fd);
    errno = error;
    if (made) fail("unshare");
    *far = open_namespace();
}

static void configure(const char *device, const char *address, const char *mask) {
    struct ifreq request = {0};
    struct sockaddr_in *in = (struct sockaddr_in *)&request.ifr_addr;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    strcpy(request.ifr_name, device);
    if (address) {
        in->sin_family = AF_INET;
        inet_pton(AF_INET, address, &in->sin_addr);
        if (ioctl(fd, SIOCSIFADDR, &request) < 0) fail("SIOCSIFADDR");
        inet_pton(AF_INET, mask, &in->sin_addr);
        if (ioctl(fd, SIOCSIFNETMASK, &request) < 0) fail("SIOCSIFNETMASK");
        request.ifr_qlen = DEVICE_PACKETS;
        if (ioctl(fd, SIOCSIFTXQLEN, &request) < 0) fail("SIOCSIFTXQLEN");
    }
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    if (ioctl(fd, SIOCSIFFLAGS, &request) < 0) fail("SIOCSIFFLAGS");
    close(fd);
}

static int open_device(int namespace, const char *address) {
    struct ifreq request = {.ifr_name = "line", .ifr_flags = IFF_TUN | IFF_NO_PI};
    if (setns(namespace, CLONE_NEWNET) < 0) fail("setns");
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
    if (fd < 0) fail("/dev/net/tun");
    if (ioctl(fd, TUNSETIFF, &request) < 0) fail("TUNSETIFF");
    configure("lo", NULL, NULL);
    configure("line", address, "255.255.255.252");
    return fd;
}

static void *carry(void *given) {
    struct direction *way = given;
    struct pollfd source = {.fd = way->device, .events = POLLIN};
    uint8_t rest[MTU];
    prctl(PR_SET_TIMERSLACK, 1000);
    sched_setscheduler(0, SCHED_RR, &(struct sched_param){.sched_priority = 1}); /* a network card waits for no core */
    for (;;) {
        uint64_t time = nanoseconds();
        for (; way->tail != way->head; way->tail++) {
            struct packet *packet = &way->queue[way->tail % queue_packets];
            if (packet->due > time) break;
            if (time - packet->due > way->latest) way->latest = time - packet->due;
            if (write(way->peer, packet->data, (size_t)packet->size) < 0) way->overflowed++;
        }
        struct timespec wait = {0};
        int waits = way->tail != way->head;
        if (waits) {
            uint64_t due = way->queue[way->tail % queue_packets].due, left = due > (time = nanoseconds()) ? due - time : 0;
            wait = (struct timespec){.tv_sec = (time_t)(left / 1000000000), .tv_nsec = (long)(left % 1000000000)};
        }
        ppoll(&source, 1, waits ? &wait : NULL, NULL);
        for (int i = 0; i < BATCH; i++) {
            int full = way->head - way->tail == queue_packets;
            struct packet *packet = &way->queue[way->head % queue_packets];
            ssize_t size = read(way->device, full ? rest : packet->data, MTU);
            if (size <= 0) break;
            if (loss_per_mille && next_random(&way->random) % 1000 < loss_per_mille) {
                way->lost++;
            } else if (full) {
                way->overflowed++;
            } else {
                packet->size = size;
                packet->due = nanoseconds() + way->delay;
                way->head++;
            }
        }
    }
    return NULL;
}

/* Packets that the device dropped because its queue was full. */
static unsigned long long dropped(int namespace) {
    char line[512];
    unsigned long long count = 0;
    if (setns(namespace, CLONE_NEWNET) < 0) fail("setns");
    FILE *file = fopen("/proc/thread-self/net/dev", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, " line: %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %llu", &count) == 1) break;
    if (file) fclose(file);
    return count;
}

int main(int argc, char **argv) {
    char rest[256];
    int near, far;
    if (argc != 7) {
        fprintf(stderr, "usage: line THERE_MS BACK_MS LOSS_PER_MILLE SEED QUEUE_PACKETS CONGESTION_CONTROL\n");
        return 2;
    }
    loss_per_mille = (unsigned)atoi(argv[3]);
    queue_packets = (size_t)atol(argv[5]);
    uint64_t seed = (uint64_t)atoll(argv[4]);
    make_namespaces(argv[6], &near, &far);
    int devices[2] = {open_device(near, "10.99.0.1"), open_device(far, "10.99.0.2")};
    struct direction ways[2] = {{.name = "there", .namespace = near, .device = devices[0], .peer = devices[1]},
                                {.name = "back", .namespace = far, .device = devices[1], .peer = devices[0]}};
    for (int i = 0; i < 2; i++) {
        pthread_t thread;
        ways[i].delay = (uint64_t)(atof(argv[1 + i]) * 1e6);
        ways[i].random = (seed * 2 + (uint64_t)i + 1) * 0x9E3779B97F4A7C15; /* never 0, which would stay 0 */
        size_t bytes = queue_packets * sizeof *ways[i].queue;
        ways[i].queue = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (ways[i].queue == MAP_FAILED) fail("mmap");
        madvise(ways[i].queue, bytes, MADV_HUGEPAGE); /* fewer page faults while packets wait */
        if (pthread_create(&thread, NULL, carry, &ways[i])) fail("a thread");
    }
    printf("%d %d %d\n", getpid(), near, far);
    fflush(stdout);
    while (fgets(rest, sizeof rest, stdin)) continue;
    for (int i = 0; i < 2; i++)
        printf("%s\"%s\": {\"packets\": %zu, \"lost\": %llu, \"overflowed\": %llu, \"dropped\": %llu, \"late_us\": %llu}", i ? ", " : "{", ways[i].name,
               ways[i].head, (unsigned long long)ways[i].lost, (unsigned long long)ways[i].overflowed, dropped(ways[i].namespace),
               (unsigned long long)ways[i].latest / 1000);
    puts("}");
    fflush(stdout);
    return 0;
}
