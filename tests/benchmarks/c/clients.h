/* The clients: connected with many handshakes at once, and cheaper than what they measure. */
#ifndef CLIENTS_H
#define CLIENTS_H

#include <stddef.h>
#include <stdint.h>

#define MAX_CLIENTS 20000
#define MAX_EVENTS 1024

struct client {
    int fd, stalled;
    uint64_t bytes;   /* received, behind the handshake */
    uint64_t next;    /* sequence expected; 0 before the first message */
    uint8_t *rest;    /* of a frame that is not whole */
    size_t rest_size;
};

struct counts {
    uint64_t messages, gaps, duplicates, lost, refused;
};

extern struct client clients[MAX_CLIENTS];
extern int client_count, stalled_count;
extern struct counts counts;

/* Reads the paths that clients connect with, one a line, each used in turn: a seat token opens one seat. */
void clients_read_paths(const char *file);

/* Where clients connect, and what more they say; `at_once` handshakes are under way at most. */
void clients_connect(int port, const char *more_headers, int at_once);

/* Events of clients: fills the array with their indices, waits so many seconds. Stalled ones have none. */
int clients_wait(int *ready, double seconds);

/* Counts and throws away, inside the kernel, what a client has received; returns how much. */
uint64_t client_skip(struct client *client);

/* Reads what a client has received and looks at each message: its sequence and time, unless it is deflated. */
uint64_t client_look(struct client *client, int sample);

/* Clients shake hands and leave, again and again, for so many seconds; returns how many did. */
uint64_t clients_shake(int port, int at_once, double seconds);

/* Seconds at this share of all latencies that were sampled. */
double clients_latency(double share);

#endif
