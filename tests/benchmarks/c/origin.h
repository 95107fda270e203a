/* The origin: what the server under test connects to; or, for a server that has to be published to, who does that. */
#ifndef ORIGIN_H
#define ORIGIN_H

#include <stddef.h>
#include <stdint.h>

/* Listens; returns the port. */
int origin_listen(void);

/* The listening socket. */
int origin_listener(void);

/* Takes a server's connection; blocks until it is there. */
void origin_accept(void);

/* Connects to a server that is published to, instead. */
void origin_publish(int port, const char *path);

/* Servers that are connected: each gets all messages. */
int origin_count(void);

/* Frames are masked, as those of a client are. */
int origin_masks(void);

/* Goes on to send data to all servers; 1 when all of them have all of it, and the next data may come. */
int origin_push(const uint8_t *data, size_t size);

/* How much of the data that is being sent the first server has. */
size_t origin_pushed(void);

/* Throws away what the servers say. */
void origin_discard(void);

#endif
