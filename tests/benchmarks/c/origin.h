/* The origin that the server under test connects to, or the publisher for a server that has to be published to. */
#ifndef ORIGIN_H
#define ORIGIN_H

#include <stddef.h>
#include <stdint.h>

/* The server under test. */
struct server {
    char address[64], publish_path[256]; /* publish_path: empty if it connects to the origin */
    char paths[4096];                    /* a file with the paths of clients, one per line */
    int port, connections;               /* of clients; number of connections to the origin */
};

/* Listens at this address; returns the port. */
int origin_listen(const char *address);

/* Waits for the line "ADDRESS PORT CONNECTIONS PATHS [PUBLISH_PATH]" on standard input, which says that the server runs.
 * Meanwhile accepts its connections; if it has to be published to, connects to it. */
void origin_wait_for_server(struct server *server);

/* Accepts a connection of a server; blocks until there is one. */
void origin_accept(void);

/* Number of connected servers; each gets all messages. */
int origin_count(void);

/* Whether frames are masked, like those of a client. */
int origin_masks(void);

/* Continues to send data to all servers; returns 1 once all of them have all of it. */
int origin_push(const uint8_t *data, size_t size);

/* Bytes of the current data that were sent to the first server. */
size_t origin_pushed(void);

/* Discards what the servers send. */
void origin_discard(void);

#endif
