#define _GNU_SOURCE
#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void die(const char *what) {
    perror(what);
    exit(1);
}

void say(const char *line) {
    puts(line);
    fflush(stdout);
}

long long tcp_bytes(void) {
    char line[256];
    long long pages = 0;
    FILE *file = fopen("/proc/net/sockstat", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "TCP: inuse %*d orphan %*d tw %*d alloc %*d mem %lld", &pages) == 1) break;
    if (file) fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

void enter_network(const char *path) {
    int fd = open(path, O_RDONLY);
    if (fd < 0 || setns(fd, CLONE_NEWNET) < 0) die(path);
    close(fd);
}

static struct sockaddr_in socket_address(const char *address, int port) {
    struct sockaddr_in made = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, address, &made.sin_addr) != 1) die(address);
    return made;
}

int split_port(char *server) {
    char *colon = strrchr(server, ':');
    if (!colon) die(server);
    *colon = 0;
    return atoi(colon + 1);
}

int listen_at(const char *host, int *port, int backlog) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in address = socket_address(host, 0);
    socklen_t length = sizeof address;
    if (fd < 0) die("socket");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, length) < 0 || listen(fd, backlog) < 0) die("listen");
    getsockname(fd, (struct sockaddr *)&address, &length);
    *port = ntohs(address.sin_port);
    return fd;
}

int begin_connecting(const char *host, int port, int *connected) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    struct sockaddr_in address = socket_address(host, port);
    if (fd < 0) die("socket");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS) die("connect");
    *connected = poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, 0) == 1; /* on loopback it is */
    return fd;
}

int connect_to(const char *host, int port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in address = socket_address(host, port);
    if (fd < 0) die("socket");
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

void write_whole(int fd, const char *data, size_t size) {
    if (write(fd, data, size) != (ssize_t)size) die("write");
}

void send_request(int fd, int port, const char *path, const char *more_headers) {
    char request[8192];
    int length = snprintf(request, sizeof request,
                          "GET %s HTTP/1.1\r\nHost: localhost:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n",
                          path, port, more_headers);
    if (length < 0 || (size_t)length >= sizeof request) die("the request is too long");
    write_whole(fd, request, (size_t)length);
}

int read_head(int fd, char *head, size_t size) {
    size_t got = 0;
    while (got < 4 || memcmp(head + got - 4, "\r\n\r\n", 4)) {
        if (got + 1 >= size || read(fd, head + got, 1) != 1) return 0;
        got++;
    }
    head[got] = 0;
    return 1;
}

static uint32_t rotate(uint32_t word, int bits) { return word << bits | word >> (32 - bits); }

/* SHA-1 (RFC 3174) of a text of less than 120 bytes: two blocks. */
static void sha1(const char *text, uint8_t digest[20]) {
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    uint8_t blocks[128] = {0};
    size_t length = strlen(text), size = length < 56 ? 64 : 128;
    memcpy(blocks, text, length);
    blocks[length] = 0x80;
    blocks[size - 2] = (uint8_t)(length >> 5);
    blocks[size - 1] = (uint8_t)(length << 3);
    for (size_t at = 0; at < size; at += 64) {
        uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int t = 0; t < 16; t++) {
            const uint8_t *p = blocks + at + 4 * t;
            w[t] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
        }
        for (int t = 16; t < 80; t++) w[t] = rotate(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
        for (int t = 0; t < 80; t++) {
            uint32_t f = t < 20 ? ((b & c) | (~b & d)) + 0x5A827999
                         : t < 40 ? (b ^ c ^ d) + 0x6ED9EBA1
                         : t < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8F1BBCDC
                                  : (b ^ c ^ d) + 0xCA62C1D6;
            uint32_t next = rotate(a, 5) + f + e + w[t];
            e = d, d = c, c = rotate(b, 30), b = a, a = next;
        }
        h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
    }
    for (int i = 0; i < 20; i++) digest[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}

static void base64(const uint8_t *data, size_t size, char *text) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        uint32_t bits = (uint32_t)data[i] << 16 | (i + 1 < size ? (uint32_t)data[i + 1] << 8 : 0) | (i + 2 < size ? data[i + 2] : 0);
        *text++ = digits[bits >> 18];
        *text++ = digits[bits >> 12 & 63];
        *text++ = i + 1 < size ? digits[bits >> 6 & 63] : '=';
        *text++ = i + 2 < size ? digits[bits & 63] : '=';
    }
    *text = 0;
}

void answer_request(int fd, char *head) {
    char *header = strcasestr(head, "sec-websocket-key:"), key[64], text[128], answer[256], accept_key[32];
    uint8_t digest[20];
    if (!header || sscanf(header + 18, " %60[A-Za-z0-9+/=]", key) != 1) die("the request has no key");
    snprintf(text, sizeof text, "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    sha1(text, digest);
    base64(digest, sizeof digest, accept_key);
    int length = snprintf(answer, sizeof answer,
                          "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Accept: %s\r\n\r\n",
                          accept_key);
    write_whole(fd, answer, (size_t)length);
}

size_t header_size(size_t payload) { return payload < 126 ? 2 : payload < 65536 ? 4 : 10; }

size_t make_frame(uint8_t *frame, const uint8_t *payload, size_t size, int masked) {
    size_t head = header_size(size);
    frame[0] = 0x82;
    if (head == 2) frame[1] = (uint8_t)size;
    if (head == 4) frame[1] = 126, frame[2] = (uint8_t)(size >> 8), frame[3] = (uint8_t)size;
    if (head == 10) {
        frame[1] = 127;
        for (int i = 0; i < 8; i++) frame[2 + i] = (uint8_t)((uint64_t)size >> (56 - 8 * i));
    }
    if (masked) {
        frame[1] |= 0x80;
        memset(frame + head, 0, 4);
        head += 4;
    }
    memcpy(frame + head, payload, size);
    return head + size;
}

uint64_t frame_size(const uint8_t *data, size_t size, size_t *head) {
    if (size < 2) return 0;
    uint64_t length = data[1] & 127;
    *head = length < 126 ? 2 : length == 126 ? 4 : 10;
    if (size < *head) return 0;
    if (*head > 2) {
        length = 0;
        for (size_t i = 2; i < *head; i++) length = length << 8 | data[i];
    }
    return *head + length;
}
