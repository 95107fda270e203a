#define _GNU_SOURCE
#include "origin.h"

#include "net.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define MAX_SERVERS 256

static struct {
    int fd;
    size_t sent;
} servers[MAX_SERVERS];
static int server_count, listener = -1, masks;

int origin_listen(void) {
    int port;
    listener = listen_anywhere(&port, MAX_SERVERS);
    return port;
}

int origin_listener(void) { return listener; }
int origin_count(void) { return server_count; }
int origin_masks(void) { return masks; }
size_t origin_pushed(void) { return servers[0].sent; }

static void add(int fd) {
    int one = 1;
    if (server_count == MAX_SERVERS) die("too many servers");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    servers[server_count++].fd = fd;
}

void origin_accept(void) {
    char head[8192];
    int fd = accept(listener, NULL, NULL);
    if (fd < 0) die("accept");
    if (!read_head(fd, head, sizeof head)) die("the server's handshake with the origin");
    answer_request(fd, head);
    add(fd);
}

void origin_publish(int port, const char *path) {
    char head[8192];
    int fd = connect_to(port);
    send_request(fd, port, path, "");
    if (!read_head(fd, head, sizeof head) || strncmp(head, "HTTP/1.1 101", 12)) die("publishing to the server failed");
    masks = 1;
    add(fd);
}

int origin_push(const uint8_t *data, size_t size) {
    int done = 1;
    for (int i = 0; i < server_count; i++) {
        while (servers[i].sent < size) {
            ssize_t n = send(servers[i].fd, data + servers[i].sent, size - servers[i].sent, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (n < 0 && errno != EAGAIN) die("the server disconnected from the origin");
            if (n < 0) break;
            servers[i].sent += (size_t)n;
        }
        done &= servers[i].sent == size;
    }
    for (int i = 0; done && i < server_count; i++) servers[i].sent = 0;
    return done;
}

void origin_discard(void) {
    for (int i = 0; i < server_count; i++)
        if (recv(servers[i].fd, NULL, 1 << 30, MSG_TRUNC | MSG_DONTWAIT) == 0) die("the server disconnected from the origin");
}
