/* The other side of a benchmark: the origin, and all the clients, in one epoll loop on a core of its own.
 *
 *   load CLIENTS SIZE MODE VALUE SECONDS [STALLED]
 *
 * Prints "origin PORT"; reads a line "SERVER_PORT PATH_FILE" from standard input once the server runs (the server
 * connects to the origin, the clients to the server, each at the next of the paths in the file); connects CLIENTS clients, of which the first STALLED never read after the handshake;
 * runs for SECONDS and prints one JSON object.
 *
 *   MODE one   VALUE messages are under way at once: the next is sent when every client has the one VALUE before it
 *   MODE burst VALUE bytes are under way at once: the origin writes as much as that beyond what the slowest client has
 *   MODE rate  VALUE messages a second, each with its time: latencies
 *   MODE idle  nothing is sent
 *   MODE shake VALUE connections at once: each client shakes hands and leaves, again and again
 *
 * In `one` and `burst` the clients throw away what they receive inside the kernel (MSG_TRUNC), so that they are cheaper than
 * what they measure; a message is its bytes there. In `rate` every message is read and looked at: sequence and time.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_CLIENTS 20000
#define SAMPLES (1 << 22)
#define WARM_UP 0.5 /* seconds before anything is counted */

struct client {
    int fd, stalled;
    uint64_t bytes;  /* of frames received */
    uint64_t next;   /* sequence expected */
    size_t partial;  /* bytes of a frame that is not whole yet */
    uint8_t *buffer;
};

static struct client clients[MAX_CLIENTS];
static int client_count, stalled_count, poll_fd, origin_fd = -1;
static char **paths; /* one for each client in turn, since a seat token opens one seat */
static size_t path_count;
static int server_port;
static double *samples;
static size_t sample_count;
static uint64_t gaps, duplicates, lost_clients, refused;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void watch(int fd, uint32_t events, int tag) {
    struct epoll_event event = {.events = events, .data.u32 = tag};
    if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event) < 0) die("epoll_ctl");
}

static size_t make_frame(uint8_t *frame, size_t size, uint64_t sequence) {
    size_t head = 2;
    frame[0] = 0x82;
    if (size < 126) frame[1] = size;
    else if (size < 65536) {
        frame[1] = 126;
        frame[2] = size >> 8;
        frame[3] = size;
        head = 4;
    } else {
        frame[1] = 127;
        for (int i = 0; i < 8; i++) frame[2 + i] = (uint64_t)size >> (56 - 8 * i);
        head = 10;
    }
    double time = now();
    memset(frame + head, '.', size);
    memcpy(frame + head, &sequence, 8);
    memcpy(frame + head + 8, &time, 8);
    return head + size;
}

static int dial(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(server_port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (fd < 0) die("socket");
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) die("connect to the server");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    static size_t turn;
    char request[8192];
    int length = snprintf(request, sizeof request,
                          "GET %s HTTP/1.1\r\nHost: localhost:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
                          paths[turn++ % path_count], server_port);
    if (write(fd, request, length) != length) die("write");
    return fd;
}

static void read_paths(const char *file) {
    FILE *lines = fopen(file, "r");
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    if (!lines) die(file);
    while ((length = getline(&line, &room, lines)) > 0) {
        paths = realloc(paths, (path_count + 1) * sizeof *paths);
        if (line[length - 1] == '\n') line[length - 1] = 0;
        paths[path_count++] = strdup(line);
    }
    fclose(lines);
    if (!path_count) die("no path");
}

/* Reads an answer's head; returns whether it is a 101. */
static int answered(int fd, char *head, size_t size) {
    size_t got = 0;
    while (got < 4 || memcmp(head + got - 4, "\r\n\r\n", 4)) {
        if (got + 1 >= size || read(fd, head + got, 1) != 1) return 0;
        got++;
    }
    head[got] = 0;
    return !strncmp(head, "HTTP/1.1 101", 12);
}

static void connect_clients(void) {
    char head[8192];
    for (int i = 0; i < client_count; i++) {
        clients[i].fd = dial();
        clients[i].stalled = i < stalled_count;
        if (!answered(clients[i].fd, head, sizeof head)) {
            fprintf(stderr, "client %d was refused: %.200s\n", i, head);
            exit(1);
        }
        fcntl(clients[i].fd, F_SETFL, O_NONBLOCK);
        if (!clients[i].stalled) watch(clients[i].fd, EPOLLIN, i);
    }
}

static void accept_origin(int listener) {
    char head[8192];
    int one = 1;
    origin_fd = accept(listener, NULL, NULL);
    if (origin_fd < 0) die("accept");
    size_t got = 0;
    while (got < 4 || memcmp(head + got - 4, "\r\n\r\n", 4)) {
        if (got + 1 >= sizeof head || read(origin_fd, head + got, 1) != 1) die("the server's handshake with the origin");
        got++;
    }
    head[got] = 0;
    /* The accept key needs SHA-1 and base64; python3's are borrowed, once. */
    char *key = strcasestr(head, "sec-websocket-key:"), command[512], accept_key[64] = "";
    if (!key) die("no key");
    char value[64];
    sscanf(key + 18, " %60[A-Za-z0-9+/=]", value);
    snprintf(command, sizeof command,
             "python3 -c \"import hashlib,base64;print(base64.b64encode(hashlib.sha1(b'%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest()).decode())\"",
             value);
    FILE *pipe = popen(command, "r");
    if (!pipe || fscanf(pipe, "%60s", accept_key) != 1) die("python3");
    pclose(pipe);
    char answer[512];
    int length = snprintf(answer, sizeof answer,
                          "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                          accept_key);
    if (write(origin_fd, answer, length) != length) die("write");
    setsockopt(origin_fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(origin_fd, F_SETFL, O_NONBLOCK);
}

static void lose(struct client *client) {
    lost_clients++;
    close(client->fd);
    client->fd = -1;
}

static uint64_t skip(struct client *client) {
    uint64_t total = 0;
    ssize_t got = recv(client->fd, NULL, 1 << 30, MSG_TRUNC | MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN)) lose(client);
    if (got > 0) total = got;
    client->bytes += total;
    return total;
}

/* Reads frames of one known size and checks sequence and time of each. */
static uint64_t look(struct client *client, size_t frame_size, size_t head, int count_latency) {
    uint64_t whole = 0;
    for (;;) {
        size_t room = 1 << 20;
        ssize_t got = recv(client->fd, client->buffer + client->partial, room - client->partial, MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno != EAGAIN)) {
            lose(client);
            return whole;
        }
        if (got < 0) return whole;
        size_t have = client->partial + got, at = 0;
        double time = now();
        while (have - at >= 2) {
            uint8_t *frame = client->buffer + at;
            if (frame[0] != 0x82) { /* a ping, empty */
                at += 2 + frame[1];
                continue;
            }
            if (have - at < frame_size) break;
            uint64_t sequence;
            double sent;
            memcpy(&sequence, frame + head, 8);
            memcpy(&sent, frame + head + 8, 8);
            if (client->next && sequence > client->next) gaps += sequence - client->next;
            if (client->next && sequence < client->next) duplicates++;
            client->next = sequence + 1;
            if (count_latency && sample_count < SAMPLES) samples[sample_count++] = time - sent;
            whole++;
            at += frame_size;
        }
        memmove(client->buffer, client->buffer + at, have - at);
        client->partial = have - at;
        client->bytes += got;
    }
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double percentile(double p) {
    if (!sample_count) return 0;
    size_t i = p * (sample_count - 1);
    return samples[i];
}

static int write_all(const uint8_t *data, size_t size, size_t *sent) {
    while (*sent < size) {
        ssize_t n = send(origin_fd, data + *sent, size - *sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0) {
            if (errno == EAGAIN) return 0;
            die("the server left the origin");
        }
        *sent += n;
    }
    return 1;
}

static void shake(int at_once, double seconds) {
    struct epoll_event events[256];
    uint64_t done = 0;
    double start = now(), end = start + seconds;
    for (int i = 0; i < at_once; i++) {
        clients[i].fd = dial();
        watch(clients[i].fd, EPOLLIN, i);
    }
    while (now() < end) {
        int count = epoll_wait(poll_fd, events, 256, 100);
        for (int i = 0; i < count; i++) {
            struct client *client = &clients[events[i].data.u32];
            char head[4096];
            ssize_t got = recv(client->fd, head, sizeof head, MSG_DONTWAIT);
            if (got > 12 && !strncmp(head, "HTTP/1.1 101", 12)) done++;
            else refused++;
            struct linger linger = {1, 0};
            setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger); /* no TIME_WAIT */
            close(client->fd);
            client->fd = dial();
            watch(client->fd, EPOLLIN, client - clients);
        }
    }
    printf("{\"handshakes\": %llu, \"refused\": %llu, \"seconds\": %.3f}\n", (unsigned long long)done, (unsigned long long)refused, now() - start);
}

int main(int argc, char **argv) {
    if (argc < 6) {
        fprintf(stderr, "usage: load CLIENTS SIZE one|burst|rate|idle|shake VALUE SECONDS [STALLED]\n");
        return 2;
    }
    client_count = atoi(argv[1]);
    size_t size = atol(argv[2]);
    const char *mode = argv[3];
    double value = atof(argv[4]), seconds = atof(argv[5]);
    stalled_count = argc > 6 ? atoi(argv[6]) : 0;
    if (client_count > MAX_CLIENTS || size < 16 || size > 900000) {
        fprintf(stderr, "load: at most %d clients, messages of 16 to 900000 bytes\n", MAX_CLIENTS);
        return 2;
    }
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, length) < 0 || listen(listener, 16) < 0) die("listen");
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("origin %d\n", ntohs(address.sin_port));
    fflush(stdout);

    poll_fd = epoll_create1(0);
    samples = malloc(SAMPLES * sizeof *samples);
    /* Some servers connect to the origin before they listen, some only when a client is there. */
    struct pollfd sources[2] = {{.fd = 0, .events = POLLIN}, {.fd = listener, .events = POLLIN}};
    char line[8192] = "";
    while (!line[0]) {
        if (poll(sources, 2, -1) < 0) die("poll");
        if (sources[1].revents && origin_fd < 0) accept_origin(listener);
        if (origin_fd >= 0) sources[1].fd = -1;
        if (sources[0].revents && !fgets(line, sizeof line, stdin)) die("SERVER_PORT PATH_FILE is needed");
    }
    char file[4096];
    if (sscanf(line, "%d %4000s", &server_port, file) != 2) {
        fprintf(stderr, "load: SERVER_PORT PATH_FILE is needed, not %.100s\n", line);
        return 2;
    }
    read_paths(file);
    if (!strcmp(mode, "shake")) {
        shake((int)value, seconds);
        return 0;
    }
    connect_clients();
    if (origin_fd < 0) accept_origin(listener);
    for (int i = 0; i < client_count; i++)
        if (!clients[i].stalled) clients[i].buffer = strcmp(mode, "rate") ? NULL : malloc(1 << 20);

    size_t capacity = value < (1 << 20) ? value : 1 << 20, head = size < 126 ? 2 : size < 65536 ? 4 : 10, frame_size = head + size;
    size_t in_block = !strcmp(mode, "burst") && capacity > frame_size ? capacity / frame_size : 1;
    uint8_t *block = malloc(in_block * frame_size + 64);
    uint64_t sequence = 1;
    for (size_t i = 0; i < in_block; i++) make_frame(block + i * frame_size, size, sequence++);
    int reading = client_count - stalled_count;
    double begin = now(), start = begin + WARM_UP, end = start + seconds, next = begin;
    uint64_t sent_bytes = 0, sent_messages = 0, counted_from = 0, received = 0, delivered = 0;
    size_t sent = 0;
    int counting = 0, sending = 0;
    struct epoll_event events[1024];
    int one = !strcmp(mode, "one"), burst = !strcmp(mode, "burst"), rate = !strcmp(mode, "rate");
    uint64_t slowest = 0;
    for (;;) {
        double time = now();
        if (!counting && time >= start) {
            counting = 1;
            counted_from = received;
            delivered = 0;
            start = time;
        }
        if (time >= end) break;
        if (one) {
            while (sending || sent_messages * frame_size * reading <= received + (uint64_t)((value - 1) * frame_size * reading)) {
                if (!sending) {
                    make_frame(block, size, sequence++);
                    sent = 0;
                    sending = 1;
                }
                if (!write_all(block, frame_size, &sent)) break;
                sending = 0;
                sent_messages++;
            }
        } else if (burst) {
            slowest = UINT64_MAX;
            for (int i = stalled_count; i < client_count; i++)
                if (clients[i].fd >= 0 && clients[i].bytes < slowest) slowest = clients[i].bytes;
            while (sent_bytes < slowest + (uint64_t)value) {
                size_t before = sent;
                int done = write_all(block, in_block * frame_size, &sent);
                sent_bytes += sent - before;
                if (!done) break;
                sent = 0;
            }
        } else if (rate) {
            while (now() >= next) {
                if (!sending) {
                    make_frame(block, size, sequence++);
                    sent = 0;
                    sending = 1;
                }
                if (!write_all(block, frame_size, &sent)) break;
                sending = 0;
                sent_messages++;
                next += 1 / value;
            }
        }
        int wait = rate ? (int)((next - now()) * 1000) : burst ? 1 : 50;
        int count = epoll_wait(poll_fd, events, 1024, wait < 0 ? 0 : wait);
        for (int i = 0; i < count; i++) {
            struct client *client = &clients[events[i].data.u32];
            if (client->fd < 0) continue;
            if (rate) delivered += look(client, frame_size, head, counting);
            else received += skip(client);
        }
    }
    double took = now() - start;
    uint64_t deliveries = rate ? delivered : (received - counted_from) / frame_size;
    qsort(samples, sample_count, sizeof *samples, compare);
    printf("{\"clients\": %d, \"stalled\": %d, \"size\": %zu, \"mode\": \"%s\", \"seconds\": %.3f, \"deliveries\": %llu, "
           "\"deliveries_per_second\": %.0f, \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"p999_ms\": %.3f, \"gaps\": %llu, "
           "\"duplicates\": %llu, \"lost_clients\": %llu}\n",
           client_count, stalled_count, size, mode, took, (unsigned long long)deliveries, deliveries / took, percentile(0.5) * 1e3,
           percentile(0.99) * 1e3, percentile(0.999) * 1e3, (unsigned long long)gaps, (unsigned long long)duplicates,
           (unsigned long long)lost_clients);
    return 0;
}
