/* The upper limit: the minimum work with which one process can share an origin among clients, as a plain epoll loop.
 *
 *   fan_out ORIGIN
 *
 * Connects to the origin (HOST:PORT), listens on a free port and prints it. After each read from the origin, it
 * sends all whole frames to every client, with one call per client. It has no checks, limits or error handling: what a full
 * socket does not accept is lost, and a handshake must arrive in a single read.
 */
#define _GNU_SOURCE
#include "net.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_FDS 20000
#define READ_BYTES (256 * 1024)
#define BUFFER_BYTES (32 * 1024 * 1024)

static int clients[MAX_FDS], index_of[MAX_FDS], client_count;

static int connect_origin(char *origin) {
    int port = split_port(origin), fd = connect_to(origin, port);
    char head[1024];
    send_request(fd, port, "/", "");
    if (!read_head(fd, head, sizeof head)) die("the origin's handshake");
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void drop(int fd) {
    client_count--;
    clients[index_of[fd]] = clients[client_count];
    index_of[clients[client_count]] = index_of[fd];
    index_of[fd] = -1;
    close(fd);
}

/* Bytes of whole frames at the start of data. */
static size_t whole_frames(const uint8_t *data, size_t size) {
    size_t at = 0, head;
    for (;;) {
        uint64_t frame = frame_size(data + at, size - at, &head);
        if (!frame || frame > size - at) return at;
        at += frame;
    }
}

static void fan_out(const uint8_t *data, size_t size) {
    for (int c = client_count - 1; c >= 0; c--)
        if (send(clients[c], data, size, MSG_NOSIGNAL) < 0 && errno != EAGAIN) drop(clients[c]);
}

static void shake_hands(int fd) {
    char request[4096];
    ssize_t got = read(fd, request, sizeof request - 1);
    if (got <= 0) {
        if (index_of[fd] >= 0) drop(fd);
        else close(fd);
    } else if (index_of[fd] < 0 && got >= 4 && !memcmp(request + got - 4, "\r\n\r\n", 4)) {
        request[got] = 0;
        answer_request(fd, request);
        index_of[fd] = client_count;
        clients[client_count++] = fd;
    }
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: fan_out ORIGIN\n");
        return 2;
    }
    int port, listener = listen_at("127.0.0.1", &port, 4096);
    fcntl(listener, F_SETFL, O_NONBLOCK);
    memset(index_of, -1, sizeof index_of);
    int origin = connect_origin(argv[1]), epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    event.data.fd = origin;
    epoll_ctl(epoll, EPOLL_CTL_ADD, origin, &event);
    printf("%d\n", port);
    fflush(stdout);

    uint8_t *buffer = malloc(BUFFER_BYTES);
    size_t filled = 0;
    for (;;) {
        int count = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                while ((event.data.fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0)
                    epoll_ctl(epoll, EPOLL_CTL_ADD, event.data.fd, &event);
            } else if (fd == origin) {
                ssize_t got = read(origin, buffer + filled, READ_BYTES);
                if (got == 0) return 0;
                if (got < 0) continue;
                filled += (size_t)got;
                size_t whole = whole_frames(buffer, filled);
                if (!whole) continue;
                fan_out(buffer, whole);
                memmove(buffer, buffer + whole, filled - whole);
                filled -= whole;
            } else {
                shake_hands(fd);
            }
        }
    }
}
