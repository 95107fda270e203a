/* The load of a benchmark: the origin and all clients, in one epoll loop on a dedicated core.
 *
 *   load --mode MODE --value V [--clients N] [--size BYTES] [--seconds S] [--warm-up S] [--stalled N] [--at-once N]
 *        [--text FILE] [--deflate] [--sleep]
 *
 * Prints "origin PORT", then reads a line about the server under test once it runs (`origin_wait_for_server`). Prints "counting" and "counted" around the measured time, then one JSON object, and exits when its
 * standard input ends. The first --stalled clients never read.
 *
 *   one    V messages are in flight. 1: the next is sent when every client has the previous one. 1.5: when half of them have
 *          it, so that the server always finds one waiting, and never two
 *   burst  V bytes are in flight: the origin writes up to V bytes more than the slowest client has received
 *   rate   V messages per second, each with its time: latencies, gaps, and how far a stalled client lags
 *   idle   nothing is sent
 *   shake  V connections at once: each client repeatedly connects and disconnects
 *
 * In `one` and `burst`, clients discard what they receive inside the kernel (MSG_TRUNC), so that they cost less than what they
 * measure; messages are counted by their bytes. In `rate`, every message is read and checked. Clients never sleep: on loopback
 * the sender pays for waking a sleeping receiver, sometimes as much as for sending; over a network it does not. With --sleep they
 * do, in `rate`: the load sleeps until data arrives or the next message is due.
 */
#define _GNU_SOURCE
#include "clients.h"
#include "net.h"
#include "origin.h"

#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define MAX_SIZE (1 << 20)
#define MAX_BLOCK (MAX_SIZE + 64)
#define QUIET 0.3 /* seconds without data, after which a stalled client has read everything */

static struct {
    const char *mode;
    double value, seconds, warm_up;
    size_t size;
    int at_once, deflate, sleep;
    const char *text;
} want = {.mode = "one", .value = 1, .seconds = 2, .warm_up = 0.5, .size = 64, .at_once = 64};

static struct {
    double start, end, connect_seconds;
    uint64_t received, received_before; /* bytes of all reading clients, now and when counting began */
    uint64_t sent;                      /* messages of the origin */
    long long tcp_bytes;                /* held by all TCP sockets of the machine at the end of the measured time */
    int reading, counting;
} run;

static uint8_t text[2 * MAX_SIZE], block[MAX_BLOCK]; /* messages are consecutive pieces of the text */
static size_t text_size = sizeof text, text_at, block_size, delivered_size;
static uint64_t sequence = 1;

/* Appends the next message to the block at `at`. */
static size_t add_message(size_t at) {
    double time = now();
    if (text_at + want.size > text_size) text_at = 0;
    uint8_t *payload = text + text_at;
    text_at += want.size;
    memcpy(payload, &sequence, 8);
    memcpy(payload + 8, &time, 8);
    sequence++;
    return at + make_frame(block + at, payload, want.size, origin_masks());
}

static void read_text(void) {
    memset(text, '.', sizeof text);
    if (!want.text) return;
    FILE *file = fopen(want.text, "r");
    text_size = file ? fread(text, 1, sizeof text, file) : 0;
    if (text_size < want.size) die(want.text);
    fclose(file);
}

static void push_one(void) {
    static int sending;
    double all = (double)delivered_size * run.reading;
    while (sending || (double)run.sent <= (double)run.received / all + want.value - 1) {
        if (!sending) block_size = add_message(0);
        sending = !origin_push(block, block_size);
        if (sending) return;
        run.sent++;
    }
}

static void push_burst(void) {
    static uint64_t sent;
    static double share = 1; /* of the sent bytes that clients receive: all but masks */
    uint64_t slowest = UINT64_MAX;
    if (!block_size) {
        size_t messages = 0;
        do block_size = add_message(block_size), messages++;
        while ((double)block_size + (double)delivered_size <= want.value && block_size + delivered_size <= MAX_SIZE);
        share = (double)(messages * delivered_size) / (double)block_size;
    }
    for (int i = stalled_count; i < client_count; i++)
        if (clients[i].fd >= 0 && clients[i].bytes < slowest) slowest = clients[i].bytes;
    while ((double)sent * share < (double)slowest + want.value) {
        size_t before = origin_pushed();
        int done = origin_push(block, block_size);
        sent += (done ? block_size : origin_pushed()) - before;
        if (!done) return;
    }
}

/* Returns the seconds until the next message is due. */
static double push_rate(void) {
    static double next;
    static int sending;
    if (!next) next = now();
    while (sending || now() >= next) {
        if (!sending) block_size = add_message(0);
        sending = !origin_push(block, block_size);
        if (sending) break;
        run.sent++;
        next += 1 / want.value;
    }
    double left = next - now();
    return sending || left < 0 ? 0 : left;
}

static void measure(void) {
    int one = !strcmp(want.mode, "one"), burst = !strcmp(want.mode, "burst"), rate = !strcmp(want.mode, "rate");
    int ready[MAX_EVENTS];
    double begin = now() + want.warm_up;
    for (run.end = begin + want.seconds;;) {
        double time = now();
        if (!run.counting && time >= begin) {
            run.counting = 1;
            run.start = time;
            run.received_before = run.received;
            counts.messages = 0;
            say("counting");
        }
        if (time >= run.end) break;
        if (one) push_one();
        if (burst) push_burst();
        double left = rate ? push_rate() : 0, until_turn = (run.counting ? run.end : begin) - time;
        int count = clients_wait(ready, !want.sleep ? 0 : left < until_turn ? left : until_turn);
        if (!count && !want.sleep) sched_yield(); /* to the lobby, which may share this core */
        for (int i = 0; i < count; i++) {
            struct client *client = &clients[ready[i]];
            if (client->fd < 0) continue;
            uint64_t before = client->bytes;
            if (rate) client_check(client, run.counting, SIZE_MAX);
            else client_skip(client);
            run.received += client->bytes - before;
        }
        origin_discard();
    }
    run.end = now();
    run.tcp_bytes = tcp_bytes(); /* before the stalled clients read */
    say("counted");
}

static void report(void) {
    double took = run.end - run.start;
    uint64_t bytes = run.received - run.received_before;
    uint64_t deliveries = counts.messages ? counts.messages : bytes / delivered_size;
    struct counts seen = counts; /* before reading the stalled clients adds to them */
    struct stalled stalled = {0};
    if (stalled_count) stalled = clients_read_stalled(sequence - 1, delivered_size, QUIET);
    printf("{\"clients\": %d, \"size\": %zu, \"mode\": \"%s\", \"value\": %g, \"seconds\": %.3f, \"connect_seconds\": %.4f, "
           "\"sent\": %llu, \"deliveries\": %llu, \"bytes\": %llu, \"per_second\": %.1f, ",
           client_count, want.size, want.mode, want.value, took, run.connect_seconds, (unsigned long long)run.sent,
           (unsigned long long)deliveries, (unsigned long long)bytes, (double)deliveries / took);
    printf("\"p50\": %.7f, \"p99\": %.7f, \"p999\": %.7f, \"max\": %.7f, \"gaps\": %llu, \"duplicates\": %llu, \"lost\": %llu, "
           "\"refused\": %llu, ",
           clients_latency(0.5), clients_latency(0.99), clients_latency(0.999), clients_latency(1), (unsigned long long)seen.gaps,
           (unsigned long long)seen.duplicates, (unsigned long long)seen.lost, (unsigned long long)seen.refused);
    printf("\"stalled\": %d, \"stalled_receive_buffer\": %.0f, \"stalled_beyond\": %.0f, \"stalled_at_newest\": %d, "
           "\"tcp_bytes\": %lld}\n",
           stalled_count, stalled.receive_buffer, stalled.beyond, stalled.at_newest, run.tcp_bytes);
    fflush(stdout);
}

static void read_options(int argc, char **argv) {
    static const struct option options[] = {
        {"mode", 1, NULL, 'm'},    {"value", 1, NULL, 'v'},   {"clients", 1, NULL, 'c'}, {"size", 1, NULL, 'b'},
        {"seconds", 1, NULL, 's'}, {"warm-up", 1, NULL, 'w'}, {"stalled", 1, NULL, 't'}, {"at-once", 1, NULL, 'a'},
        {"text", 1, NULL, 'x'},    {"deflate", 0, NULL, 'd'}, {"sleep", 0, NULL, 'p'}, {0}};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'm') want.mode = optarg;
        else if (option == 'v') want.value = atof(optarg);
        else if (option == 'c') client_count = atoi(optarg);
        else if (option == 'b') want.size = (size_t)atol(optarg);
        else if (option == 's') want.seconds = atof(optarg);
        else if (option == 'w') want.warm_up = atof(optarg);
        else if (option == 't') stalled_count = atoi(optarg);
        else if (option == 'a') want.at_once = atoi(optarg);
        else if (option == 'x') want.text = optarg;
        else if (option == 'd') want.deflate = 1;
        else if (option == 'p') want.sleep = 1;
        else exit(2);
    }
    if (client_count > MAX_CLIENTS || want.at_once > MAX_CLIENTS || want.size < 16 || want.size > MAX_SIZE) {
        fprintf(stderr, "load: at most %d clients, messages of 16 to %d bytes\n", MAX_CLIENTS, MAX_SIZE);
        exit(2);
    }
}

int main(int argc, char **argv) {
    struct server server;
    char rest[256];
    client_count = 512;
    read_options(argc, argv);
    prctl(PR_SET_TIMERSLACK, 1000);
    read_text();
    delivered_size = header_size(want.size) + want.size;
    printf("origin %d\n", origin_listen("127.0.0.1"));
    fflush(stdout);
    origin_wait_for_server(&server);
    clients_read_paths(server.paths);

    if (!strcmp(want.mode, "shake")) {
        clients_shake(&server, want.at_once, want.warm_up);
        say("counting");
        run.start = now();
        counts.refused = 0;
        uint64_t done = clients_shake(&server, want.at_once, want.seconds);
        run.end = now();
        say("counted");
        counts.messages = done;
    } else {
        double begin = now();
        clients_connect(&server, want.deflate ? "Sec-WebSocket-Extensions: permessage-deflate\r\n" : "", want.at_once);
        run.connect_seconds = now() - begin;
        while (origin_count() < server.connections) origin_accept();
        run.reading = client_count - stalled_count;
        measure();
    }
    report();
    while (fgets(rest, sizeof rest, stdin)) continue; /* clients stay connected until standard input ends */
    return 0;
}
