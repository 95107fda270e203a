/* The origin that the server under test connects to, or the publisher for a server that has to be published to. */
#ifndef ORIGIN_H
#define ORIGIN_H

#include <stddef.h>
#include <stdint.h>

/* Listens; returns the port. */
int origin_listen(void);

/* The listening socket. */
int origin_listener(void);

/* Accepts a connection of a server; blocks until there is one. */
void origin_accept(void);

/* Connects to a server as its publisher instead. */
void origin_publish(int port, const char *path);

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
