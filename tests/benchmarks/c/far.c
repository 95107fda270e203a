/* The load over a far line: the origin in one network namespace, the clients in another. Every message counts, from the first.
 *
 *   far [--origin-address A] [--origin-namespace PATH] [--client-namespace PATH] [--clients N] [--slow N] [--stalled N]
 *       [--size BYTES] [--burst N] [--spread S] [--pause S] [--bursts N] [--drain S] [--quiet S]
 *
 * Prints "origin PORT", then reads a line about the server under test once it runs (`origin_wait_for_server`). N clients connect
 * at once. Then, after each pause of S seconds, the origin sends a burst of N messages, evenly spread over S seconds. A steady
 * stream is one long burst. Prints "counted" when every client that reads has the newest message, or --drain seconds after
 * the last one was due, then one JSON object, and exits when its standard input ends.
 *
 * A message's latency is the time from when it was due to when the client read it, so an origin that is held up makes it
 * late. --clients read everything at once. --slow others never read more than half of what was sent so far, and --stalled
 * others read nothing until the end. All of them sleep while nothing is to be done.
 */
#define _GNU_SOURCE
#include "clients.h"
#include "net.h"
#include "origin.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#define MAX_SIZE (1 << 20)
#define SLOW_SHARE 0.5
#define TURN 0.01    /* seconds between two reads of a slow client, and between two looks at TCP's memory */
#define RETRY 0.0005 /* seconds until a full socket of the origin is tried again */

static struct {
    const char *origin_address, *origin_namespace, *client_namespace;
    double spread, pause, drain, quiet;
    size_t size;
    int readers, slow, burst, bursts;
} want = {.origin_address = "127.0.0.1", .spread = 1, .pause = 0.5, .drain = 2, .quiet = 0.3, .size = 200, .readers = 50, .burst = 100,
          .bursts = 1};

static uint64_t sent; /* messages */
static double connect_seconds;
static long long most_tcp_bytes;

static double when_due(uint64_t message, double start) {
    uint64_t burst = message / (uint64_t)want.burst, place = message % (uint64_t)want.burst;
    return start + want.pause + (double)burst * (want.spread + want.pause) + (double)place * want.spread / want.burst;
}

static size_t make_message(uint8_t *frame, double due) {
    static uint8_t payload[MAX_SIZE];
    uint64_t sequence = sent + 1;
    if (sequence == 1) memset(payload, '.', want.size);
    memcpy(payload, &sequence, 8);
    memcpy(payload + 8, &due, 8);
    return make_frame(frame, payload, want.size, origin_masks());
}

/* Pushes all messages that are due; returns the seconds until it wants to be called again. */
static double push(double start, uint64_t total) {
    static uint8_t frame[MAX_SIZE + 64];
    static size_t size;
    for (; sent < total; sent++, size = 0) {
        double due = when_due(sent, start), left = due - now();
        if (left > 0) return left;
        if (!size) size = make_message(frame, due);
        if (!origin_push(frame, size)) return RETRY;
    }
    return TURN;
}

/* The first clients are stalled, the next slow, the rest reads everything. */
static int first_slow(void) { return stalled_count; }
static int first_reader(void) { return stalled_count + want.slow; }

static void read_slowly(size_t delivered_size) {
    uint64_t allowed = (uint64_t)(SLOW_SHARE * (double)(sent * delivered_size));
    for (int i = first_slow(); i < first_reader(); i++)
        if (clients[i].fd >= 0 && clients[i].bytes < allowed) client_check(&clients[i], 0, allowed - clients[i].bytes);
}

static int everyone_has_the_newest(void) {
    for (int i = first_reader(); i < client_count; i++)
        if (clients[i].fd >= 0 && clients[i].next != sent + 1) return 0;
    return 1;
}

static void measure(size_t delivered_size) {
    uint64_t total = (uint64_t)want.burst * (uint64_t)want.bursts;
    int ready[MAX_EVENTS];
    double start = now(), end = when_due(total - 1, start) + want.drain, last_turn = 0;
    while (now() < end && (sent < total || !everyone_has_the_newest())) {
        double wait = push(start, total);
        if (wait > TURN) wait = TURN;
        int count = clients_wait(ready, wait);
        for (int i = 0; i < count; i++)
            if (clients[ready[i]].fd >= 0) client_check(&clients[ready[i]], 1, SIZE_MAX);
        origin_discard();
        if (now() - last_turn < TURN) continue;
        last_turn = now();
        if (sent < total) read_slowly(delivered_size);
        long long bytes = tcp_bytes();
        if (bytes > most_tcp_bytes) most_tcp_bytes = bytes;
    }
}

/* Messages that clients from..to did not receive, and the most that one of them did not. */
static uint64_t count_missing(int from, int to, uint64_t *most) {
    uint64_t all = 0;
    *most = 0;
    for (int i = from; i < to; i++) {
        uint64_t missing = sent - clients[i].messages;
        all += missing;
        if (missing > *most) *most = missing;
    }
    return all;
}

static void report(size_t delivered_size) {
    uint64_t most_missing, most, missing = count_missing(first_reader(), client_count, &most_missing);
    struct counts seen = counts; /* before reading the stalled clients adds to them */
    double oldest = 0;
    uint64_t behind = 0;
    printf("{\"sent\": %llu, \"clients\": %d, \"missing\": %llu, \"most_missing\": %llu, \"duplicates\": %llu, \"lost_clients\": %llu, "
           "\"connect_seconds\": %.4f, \"p50\": %.6f, \"p99\": %.6f, \"max\": %.6f, \"tcp_bytes\": %lld",
           (unsigned long long)sent, client_count - first_reader(), (unsigned long long)missing, (unsigned long long)most_missing,
           (unsigned long long)seen.duplicates, (unsigned long long)seen.lost, connect_seconds, clients_latency(0.5), clients_latency(0.99),
           clients_latency(1), most_tcp_bytes);
    for (int i = first_slow(); i < first_reader(); i++) {
        if (clients[i].oldest > oldest) oldest = clients[i].oldest;
        if (sent + 1 - clients[i].next > behind) behind = sent + 1 - clients[i].next;
    }
    if (want.slow)
        printf(", \"slow\": {\"clients\": %d, \"missing\": %llu, \"oldest\": %.6f, \"behind\": %llu}", want.slow,
               (unsigned long long)count_missing(first_slow(), first_reader(), &most), oldest, (unsigned long long)behind);
    if (stalled_count) {
        struct stalled found = clients_read_stalled(sent, delivered_size, want.quiet);
        printf(", \"stalled\": {\"clients\": %d, \"receive_buffer\": %.0f, \"beyond\": %.0f, \"at_newest\": %d}", stalled_count,
               found.receive_buffer, found.beyond, found.at_newest);
    }
    say("}");
}

static void read_options(int argc, char **argv) {
    static const struct option options[] = {
        {"origin-address", 1, NULL, 'o'}, {"origin-namespace", 1, NULL, 'O'}, {"client-namespace", 1, NULL, 'C'},
        {"clients", 1, NULL, 'c'},        {"slow", 1, NULL, 'l'},             {"stalled", 1, NULL, 't'},
        {"size", 1, NULL, 'b'},           {"burst", 1, NULL, 'n'},            {"spread", 1, NULL, 's'},
        {"pause", 1, NULL, 'p'},          {"bursts", 1, NULL, 'N'},           {"drain", 1, NULL, 'd'},
        {"quiet", 1, NULL, 'q'},          {0}};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'o') want.origin_address = optarg;
        else if (option == 'O') want.origin_namespace = optarg;
        else if (option == 'C') want.client_namespace = optarg;
        else if (option == 'c') want.readers = atoi(optarg);
        else if (option == 'l') want.slow = atoi(optarg);
        else if (option == 't') stalled_count = atoi(optarg);
        else if (option == 'b') want.size = (size_t)atol(optarg);
        else if (option == 'n') want.burst = atoi(optarg);
        else if (option == 's') want.spread = atof(optarg);
        else if (option == 'p') want.pause = atof(optarg);
        else if (option == 'N') want.bursts = atoi(optarg);
        else if (option == 'd') want.drain = atof(optarg);
        else if (option == 'q') want.quiet = atof(optarg);
        else exit(2);
    }
    client_count = first_reader() + want.readers;
    if (client_count > MAX_CLIENTS || want.size < 16 || want.size > MAX_SIZE || want.burst < 1 || want.bursts < 1) {
        fprintf(stderr, "far: at most %d clients, messages of 16 to %d bytes, at least one message\n", MAX_CLIENTS, MAX_SIZE);
        exit(2);
    }
}

int main(int argc, char **argv) {
    struct server server;
    char rest[256], line[64];
    prctl(PR_SET_TIMERSLACK, 1000);
    read_options(argc, argv);
    size_t delivered_size = header_size(want.size) + want.size;
    if (want.origin_namespace) enter_network(want.origin_namespace);
    snprintf(line, sizeof line, "origin %d", origin_listen(want.origin_address));
    say(line);
    origin_wait_for_server(&server);
    clients_read_paths(server.paths);
    if (want.client_namespace) enter_network(want.client_namespace);
    double begin = now();
    stalled_count += want.slow; /* neither is reported when readable */
    clients_connect(&server, "", client_count);
    stalled_count -= want.slow;
    connect_seconds = now() - begin;
    while (origin_count() < server.connections) origin_accept();
    measure(delivered_size);
    say("counted");
    report(delivered_size);
    while (fgets(rest, sizeof rest, stdin)) continue; /* clients stay connected until standard input ends */
    return 0;
}
