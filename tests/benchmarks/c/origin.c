#define _GNU_SOURCE
#include "origin.h"

#include "net.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
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

int origin_listen(const char *address) {
    int port;
    listener = listen_at(address, &port, MAX_SERVERS);
    return port;
}

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

static void publish(const struct server *server) {
    char head[8192];
    int fd = connect_to(server->address, server->port);
    send_request(fd, server->port, server->publish_path, "");
    if (!read_head(fd, head, sizeof head) || strncmp(head, "HTTP/1.1 101", 12)) die("publishing to the server failed");
    masks = 1;
    add(fd);
}

void origin_wait_for_server(struct server *server) {
    struct pollfd sources[2] = {{.fd = 0, .events = POLLIN}, {.fd = listener, .events = POLLIN}};
    char line[8192];
    do { /* some servers connect to the origin before they listen, some only when a client connects */
        if (poll(sources, 2, -1) < 0) die("poll");
        if (sources[1].revents) origin_accept();
    } while (!sources[0].revents);
    *server = (struct server){0};
    if (!fgets(line, sizeof line, stdin) || sscanf(line, "%60s %d %d %4000s %200s", server->address, &server->port, &server->connections,
                                                   server->paths, server->publish_path) < 4) {
        fprintf(stderr, "expected ADDRESS PORT CONNECTIONS PATHS [PUBLISH_PATH]\n");
        exit(2);
    }
    if (server->publish_path[0]) publish(server);
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
