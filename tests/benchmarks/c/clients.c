#define _GNU_SOURCE
#include "clients.h"

#include "net.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define SAMPLES (1 << 24)
#define READ_BYTES (1 << 20)

struct client clients[MAX_CLIENTS];
int client_count, stalled_count;
struct counts counts;

static int epoll = -1;
static char **paths;
static size_t path_count, turn;
static float *samples;
static size_t sample_count;
static int sorted;

void clients_read_paths(const char *file) {
    FILE *lines = fopen(file, "r");
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    if (!lines) die(file);
    while ((length = getline(&line, &room, lines)) > 0) {
        if (line[length - 1] == '\n') line[length - 1] = 0;
        paths = realloc(paths, (path_count + 1) * sizeof *paths);
        paths[path_count++] = strdup(line);
    }
    free(line);
    fclose(lines);
    if (!path_count) die("no path");
}

static void watch(int index, int change, uint32_t events) {
    struct epoll_event event = {.events = events, .data.u32 = (uint32_t)index};
    if (epoll < 0) epoll = epoll_create1(0);
    if (epoll_ctl(epoll, change, clients[index].fd, &event) < 0) die("epoll_ctl");
}

static void request(int index, int port, const char *more_headers) {
    send_request(clients[index].fd, port, paths[turn++ % path_count], more_headers);
}

static void begin(int index, const struct server *server, const char *more_headers) {
    int connected;
    clients[index].fd = begin_connecting(server->address, server->port, &connected);
    clients[index].connecting = !connected;
    if (connected) request(index, server->port, more_headers);
    watch(index, EPOLL_CTL_ADD, connected ? EPOLLIN : EPOLLOUT);
}

void clients_connect(const struct server *server, const char *more_headers, int at_once) {
    int begun = 0, done = 0, ready[MAX_EVENTS];
    while (done < client_count) {
        for (; begun < client_count && begun - done < at_once; begun++) begin(begun, server, more_headers);
        int count = clients_wait(ready, 30);
        if (!count) die("the server does not respond");
        for (int i = 0; i < count; i++) {
            struct client *client = &clients[ready[i]];
            char head[8192];
            if (client->connecting) {
                client->connecting = 0;
                request(ready[i], server->port, more_headers);
                watch(ready[i], EPOLL_CTL_MOD, EPOLLIN);
                continue;
            }
            done++;
            ssize_t got = recv(client->fd, head, sizeof head - 1, 0);
            head[got > 0 ? got : 0] = 0;
            if (strncmp(head, "HTTP/1.1 101", 12)) {
                fprintf(stderr, "load: client %d was refused: %.200s\n", ready[i], head);
                exit(1);
            }
            if (strcmp(head + got - 4, "\r\n\r\n")) die("data after the response");
            client->stalled = ready[i] < stalled_count;
            if (client->stalled) epoll_ctl(epoll, EPOLL_CTL_DEL, client->fd, NULL);
        }
    }
}

int clients_wait(int *ready, double seconds) {
    struct epoll_event events[MAX_EVENTS];
    struct timespec timeout = {.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    int count = epoll_pwait2(epoll, events, MAX_EVENTS, seconds < 0 ? &(struct timespec){0} : &timeout, NULL);
    if (count < 0) die("epoll_pwait2");
    for (int i = 0; i < count; i++) ready[i] = (int)events[i].data.u32;
    return count;
}

static void drop(struct client *client) {
    counts.lost++;
    close(client->fd);
    client->fd = -1;
}

uint64_t client_skip(struct client *client) {
    ssize_t got = recv(client->fd, NULL, 1 << 30, MSG_TRUNC | MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN)) drop(client);
    if (got <= 0) return 0;
    client->bytes += (uint64_t)got;
    return (uint64_t)got;
}

static void check_message(struct client *client, const uint8_t *payload, double at, int sample) {
    uint64_t sequence;
    double sent;
    memcpy(&sequence, payload, 8);
    memcpy(&sent, payload + 8, 8);
    if (client->next && sequence > client->next) counts.gaps += sequence - client->next;
    if (client->next && sequence < client->next) counts.duplicates++;
    else client->next = sequence + 1, client->messages++;
    if (at - sent > client->oldest) client->oldest = at - sent;
    if (sample && sample_count < SAMPLES) {
        if (!samples) samples = malloc(SAMPLES * sizeof *samples);
        samples[sample_count++] = (float)(at - sent);
    }
}

uint64_t client_check(struct client *client, int sample, size_t most) {
    static uint8_t buffer[READ_BYTES + (1 << 20)];
    uint64_t whole = 0;
    size_t have = client->rest_size, head;
    if (have) memcpy(buffer, client->rest, have);
    ssize_t got = recv(client->fd, buffer + have, most < READ_BYTES ? most : READ_BYTES, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN)) drop(client);
    if (got <= 0) return 0;
    double at = now();
    client->bytes += (uint64_t)got;
    have += (size_t)got;
    const uint8_t *frame = buffer;
    for (;;) {
        uint64_t size = frame_size(frame, have, &head);
        if (!size || size > have) break;
        if (!(frame[0] & 8)) { /* data frame */
            whole++;
            if (!(frame[0] & 0x40)) check_message(client, frame + head, at, sample);
        }
        frame += size;
        have -= size;
    }
    if (have > client->rest_size) client->rest = realloc(client->rest, have);
    if (have) memcpy(client->rest, frame, have);
    client->rest_size = have;
    counts.messages += whole;
    return whole;
}

struct stalled clients_read_stalled(uint64_t newest, size_t delivered_size, double quiet) {
    struct stalled found = {0};
    int *in_buffer = calloc((size_t)stalled_count + 1, sizeof *in_buffer);
    for (int i = 0; i < stalled_count; i++) {
        ioctl(clients[i].fd, FIONREAD, &in_buffer[i]);
        if (in_buffer[i] > found.receive_buffer) found.receive_buffer = in_buffer[i];
    }
    for (double last = now(); now() - last < quiet;)
        for (int i = 0; i < stalled_count; i++)
            if (clients[i].fd >= 0 && client_check(&clients[i], 0, SIZE_MAX)) last = now();
    for (int i = 0; i < stalled_count; i++) {
        double beyond = (double)((clients[i].bytes - (uint64_t)in_buffer[i]) / delivered_size);
        if (beyond > found.beyond) found.beyond = beyond;
        found.at_newest += clients[i].next == newest + 1;
    }
    free(in_buffer);
    return found;
}

uint64_t clients_shake(const struct server *server, int at_once, double seconds) {
    struct linger reset = {1, 0}; /* no TIME_WAIT, which would exhaust the ports */
    double end = now() + seconds;
    uint64_t done = 0;
    int ready[MAX_EVENTS];
    for (int i = 0; i < at_once; i++)
        if (!clients[i].fd) begin(i, server, ""); /* otherwise still connected from an earlier call */
    while (now() < end) {
        int count = clients_wait(ready, 0.1);
        for (int i = 0; i < count; i++) {
            struct client *client = &clients[ready[i]];
            char head[4096];
            ssize_t got = recv(client->fd, head, sizeof head, MSG_DONTWAIT);
            if (got > 12 && !strncmp(head, "HTTP/1.1 101", 12)) done++;
            else counts.refused++;
            setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
            close(client->fd);
            begin(ready[i], server, "");
        }
    }
    return done;
}

static int compare(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

double clients_latency(double share) {
    if (!sample_count) return 0;
    if (!sorted) qsort(samples, sample_count, sizeof *samples, compare);
    sorted = 1;
    return samples[(size_t)(share * (double)(sample_count - 1))];
}
