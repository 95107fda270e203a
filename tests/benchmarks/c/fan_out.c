/* The limit: the least that one process can do to share an origin among clients, as a plain epoll loop.
 *
 *   fan_out ORIGIN_PORT
 *
 * Connects to the origin at 127.0.0.1:ORIGIN_PORT, listens on a free port, prints it, and from then on sends whatever whole
 * frames one read of the origin brought to every client, in one call for each. It checks nothing, bounds nothing and forgives
 * nothing: a client whose socket is full is dropped with the rest of its bytes lost. Handshakes are answered without a look.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_FDS 20000
#define READ_BYTES (256 * 1024)
#define BUFFER_BYTES (32 * 1024 * 1024)

static const char ANSWER[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
static const char REQUEST[] =
    "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

static int clients[MAX_FDS], place[MAX_FDS], client_count;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static int connect_origin(int port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (write(fd, REQUEST, sizeof REQUEST - 1) != (ssize_t)(sizeof REQUEST - 1)) die("write");
    char head[1024];
    size_t got = 0;
    while (got < 4 || memcmp(head + got - 4, "\r\n\r\n", 4)) {
        if (got == sizeof head || read(fd, head + got, 1) != 1) die("origin handshake");
        got++;
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void drop(int fd) {
    client_count--;
    clients[place[fd]] = clients[client_count];
    place[clients[client_count]] = place[fd];
    place[fd] = -1;
    close(fd);
}

/* Bytes of whole frames at the start of data. */
static size_t whole_frames(const uint8_t *data, size_t size) {
    size_t at = 0;
    while (at + 2 <= size) {
        uint64_t length = data[at + 1] & 127;
        size_t head = 2;
        if (length == 126) {
            if (at + 4 > size) break;
            length = (uint64_t)data[at + 2] << 8 | data[at + 3];
            head = 4;
        } else if (length == 127) {
            if (at + 10 > size) break;
            length = 0;
            for (int i = 2; i < 10; i++) length = length << 8 | data[at + i];
            head = 10;
        }
        if (length > size || at + head + length > size) break;
        at += head + length;
    }
    return at;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: fan_out ORIGIN_PORT\n");
        return 2;
    }
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, size) < 0 || listen(listener, 4096) < 0) die("listen");
    getsockname(listener, (struct sockaddr *)&address, &size);

    memset(place, -1, sizeof place);
    int origin = connect_origin(atoi(argv[1])), poll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    event.data.fd = origin;
    epoll_ctl(poll, EPOLL_CTL_ADD, origin, &event);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);

    uint8_t *buffer = malloc(BUFFER_BYTES);
    size_t filled = 0;
    for (;;) {
        int count = epoll_wait(poll, events, 256, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                int client = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                if (client < 0) continue;
                event.data.fd = client;
                epoll_ctl(poll, EPOLL_CTL_ADD, client, &event);
            } else if (fd == origin) {
                ssize_t got = read(origin, buffer + filled, READ_BYTES);
                if (got == 0) return 0;
                if (got < 0) continue;
                filled += got;
                size_t whole = whole_frames(buffer, filled);
                if (!whole) continue;
                for (int c = client_count - 1; c >= 0; c--)
                    if (send(clients[c], buffer, whole, MSG_NOSIGNAL) < 0 && errno != EAGAIN) drop(clients[c]);
                memmove(buffer, buffer + whole, filled - whole);
                filled -= whole;
            } else {
                char request[4096];
                ssize_t got = read(fd, request, sizeof request);
                if (got <= 0) {
                    if (place[fd] >= 0) drop(fd);
                    else close(fd);
                } else if (place[fd] < 0 && got >= 4 && !memcmp(request + got - 4, "\r\n\r\n", 4)) {
                    if (write(fd, ANSWER, sizeof ANSWER - 1) < 0) continue;
                    place[fd] = client_count;
                    clients[client_count++] = fd;
                }
            }
        }
    }
}
