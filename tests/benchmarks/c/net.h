/* Sockets, time and WebSocket frames for all programs. */
#ifndef NET_H
#define NET_H

#include <stddef.h>
#include <stdint.h>

/* Seconds of the monotonic clock. */
double now(void);

/* Prints errno as text and exits. */
void die(const char *what);

/* Prints a line at once. */
void say(const char *line);

/* Bytes held by all TCP connections of the machine, both ends, as the kernel accounts for them. */
long long tcp_bytes(void);

/* Sockets created from now on belong to the network namespace at this path. */
void enter_network(const char *path);

/* A listening socket on a free port of this address. */
int listen_at(const char *address, int *port, int backlog);

/* Splits HOST:PORT in place; returns the port. */
int split_port(char *server);

/* A blocking connection with TCP_NODELAY. */
int connect_to(const char *address, int port);

/* The same without blocking; sets whether it is connected already. It is writable once it is. */
int begin_connecting(const char *address, int port, int *connected);

void write_whole(int fd, const char *data, size_t size);

/* Sends the opening handshake of a client. */
void send_request(int fd, int port, const char *path, const char *more_headers);

/* Reads the head of a request or response byte by byte, so that nothing after it is consumed; 0 if the peer closed early. */
int read_head(int fd, char *head, size_t size);

/* Sends a 101 response to the request with this head. */
void answer_request(int fd, char *head);

/* Size of the header of an unmasked frame. */
size_t header_size(size_t payload);

/* A whole binary frame; returns its size. A masked one has a mask of zeros, so its payload is the same. */
size_t make_frame(uint8_t *frame, const uint8_t *payload, size_t size, int masked);

/* Size of the first frame in data, including its header; 0 if the header is incomplete. Sets the size of the header. */
uint64_t frame_size(const uint8_t *data, size_t size, size_t *head);

#endif
