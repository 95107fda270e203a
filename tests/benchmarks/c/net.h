/* What both programs need of sockets, time and WebSocket frames. */
#ifndef NET_H
#define NET_H

#include <stddef.h>
#include <stdint.h>

/* Seconds of the monotonic clock. */
double now(void);

/* Prints what errno says, and ends. */
void die(const char *what);

/* A listening socket on a free port of the loopback. */
int listen_anywhere(int *port, int backlog);

/* A connection to a port of the loopback, blocking, with TCP_NODELAY. */
int connect_to(int port);

void write_whole(int fd, const char *data, size_t size);

/* Sends the opening handshake of a client. */
void send_request(int fd, int port, const char *path, const char *more_headers);

/* Reads the head of a request or an answer byte by byte, so that nothing behind it is taken; 0 when the peer ended first. */
int read_head(int fd, char *head, size_t size);

/* Answers a request whose head was read with 101. */
void answer_request(int fd, char *head);

/* Size of the header of an unmasked frame. */
size_t header_size(size_t payload);

/* A whole binary frame; returns its size. A masked one has a mask of zeros, so its payload is the same. */
size_t make_frame(uint8_t *frame, const uint8_t *payload, size_t size, int masked);

/* Size of the frame at the start of data with its header, 0 when the header is cut off; sets the size of the header. */
uint64_t frame_size(const uint8_t *data, size_t size, size_t *head);

#endif
