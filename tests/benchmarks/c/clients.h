/* The clients: they connect concurrently and cost less than what they measure. */
#ifndef CLIENTS_H
#define CLIENTS_H

#include "origin.h"

#include <stddef.h>
#include <stdint.h>

#define MAX_CLIENTS 20000
#define MAX_EVENTS 1024

struct client {
    int fd, stalled, connecting;
    uint64_t bytes;    /* received after the handshake */
    uint64_t messages; /* received, each counted once */
    uint64_t next;     /* expected sequence; 0 before the first message */
    double oldest;     /* seconds, the age at which it received its latest messages, at most */
    uint8_t *rest;    /* of an incomplete frame */
    size_t rest_size;
};

struct counts {
    uint64_t messages, gaps, duplicates, lost, refused;
};

extern struct client clients[MAX_CLIENTS];
extern int client_count, stalled_count;
extern struct counts counts;

/* Reads the paths for clients, one per line, used in turn, because a seat token opens only one seat. */
void clients_read_paths(const char *file);

/* Connects all clients with additional headers and at most `at_once` concurrent handshakes. */
void clients_connect(const struct server *server, const char *more_headers, int at_once);

/* Waits up to `seconds` for readable clients and fills the array with their indices. Stalled clients are never reported. */
int clients_wait(int *ready, double seconds);

/* Discards, inside the kernel, what a client has received; returns the number of bytes. */
uint64_t client_skip(struct client *client);

/* Reads at most `most` bytes of what a client has received and checks the sequence and time of each message, unless it is deflated. */
uint64_t client_check(struct client *client, int sample, size_t most);

struct stalled {
    double receive_buffer; /* bytes, maximum of all stalled clients */
    double beyond;         /* whole messages held for a client of which it had no byte, likewise */
    int at_newest;         /* stalled clients whose last message was the newest one */
};

/* Once the origin has stopped: measures what is held for stalled clients in their receive buffers, and beyond. They now read
 * until nothing has come for `quiet` seconds. `newest` is the newest message, `delivered_size` the size of its frame. */
struct stalled clients_read_stalled(uint64_t newest, size_t delivered_size, double quiet);

/* Clients repeatedly connect and disconnect for `seconds`; returns the number of handshakes. */
uint64_t clients_shake(const struct server *server, int at_once, double seconds);

/* The quantile `share` of the sampled latencies, in seconds. */
double clients_latency(double share);

#endif
