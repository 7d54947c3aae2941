/* What each worker tells of itself, in memory that all processes of a server share.
 *
 * One fa_slot for each worker. Its fields are written by that worker alone (state, pid and generation also by whoever
 * starts and buries it), and read by all. Each is 8 bytes, aligned, and so is never seen half written on a 64-bit
 * machine; no two of them are promised to be of the same moment. Counting costs one add: nothing is locked. */
#ifndef FA_SCOREBOARD_H
#define FA_SCOREBOARD_H

#include <stdint.h>

#define FA_LATENCY_BUCKETS 112 /* four for each doubling, from 1 us to 2 min; the ends take what is beyond */
#define FA_LATENCY_FIRST 10    /* 2^10 ns: the lower end of the second bucket */
#define FA_STALE_NS 2500000000 /* without a heartbeat for so long, a worker's loop does not turn */
#define FA_SLACK_SHIFT 4       /* a worker is above the mean with more than 1/16 of it, or with more than one */

/* GONE is 0: memory that nobody has written says that nobody works there. */
enum { FA_GONE = 0, FA_BOOTING = 1, FA_READY = 2, FA_DRAINING = 3 };

typedef struct {
    /* written once a tick, or less */
    int64_t heartbeat_ns; /* monotonic clock, by a timer of the loop */
    uint64_t state;
    uint64_t pid;
    uint64_t generation;
    int64_t started_ns;
    int64_t lag_ns; /* how late the last heartbeat was */
    uint64_t rss_bytes;
    uint64_t sample_mask; /* one answer of mask + 1 is timed, and counted so many times */
    /* written for each connection or request */
    uint64_t connections; /* open */
    uint64_t accepted;    /* since the start */
    uint64_t requests_active;
    uint64_t requests_total;
    uint64_t answers; /* responses that were completed */
    uint64_t errors;  /* of them 5xx; and responses that were cut off by the application's fault */
    uint64_t connecting; /* accepted, and not open yet: in their TLS handshake */
    uint64_t reserved[1];
    uint64_t latency[FA_LATENCY_BUCKETS];
} fa_slot;

typedef struct {
    uint64_t n_slots;
    uint64_t n_used; /* no slot from here on was ever used */
    uint64_t reserved[sizeof(fa_slot) / 8 - 2];
    fa_slot slots[]; /* n_slots */
} fa_board;

typedef char fa_slot_is_of_whole_cache_lines[sizeof(fa_slot) % 64 == 0 ? 1 : -1];

/* The bucket of a latency. */
static inline unsigned fa_latency_bucket(int64_t ns) {
    uint64_t rest = ns > 0 ? (uint64_t)ns >> FA_LATENCY_FIRST : 0;
    unsigned doublings = 0, bucket;
    if (rest == 0) return 0;
    while (rest >>= 1) doublings++; /* at most a few: 1 ms is ten */
    bucket = 1 + doublings * 4 + ((uint64_t)ns >> (FA_LATENCY_FIRST - 2 + doublings) & 3);
    return bucket < FA_LATENCY_BUCKETS ? bucket : FA_LATENCY_BUCKETS - 1;
}

/* The lower end of a bucket, in nanoseconds. */
static inline uint64_t fa_latency_bound(unsigned bucket) {
    if (bucket == 0) return 0;
    return (uint64_t)(4 + (bucket - 1) % 4) << (FA_LATENCY_FIRST - 2 + (bucket - 1) / 4);
}

/* Whether this answer is one of those that are timed. A Weyl sequence picks them: evenly, and in step with no pattern of
 * requests that repeats. */
static inline int fa_slot_samples(fa_slot *slot) {
    slot->answers++;
    return !(slot->answers * 0x9E3779B97F4A7C15 >> 56 & slot->sample_mask);
}

/* A field that another process may be writing. */
static inline uint64_t fa_seen(const uint64_t *field) { return *(const volatile uint64_t *)field; }

/* Whether a worker takes its share: it is ready, and its loop turns. */
static inline int fa_slot_is_live(const fa_slot *slot, int64_t now_ns) {
    return fa_seen(&slot->state) == FA_READY &&
           now_ns - (int64_t)fa_seen((const uint64_t *)&slot->heartbeat_ns) < FA_STALE_NS;
}

/* Connections that a worker has taken. */
static inline uint64_t fa_slot_held(const fa_slot *slot) {
    return fa_seen(&slot->connections) + fa_seen(&slot->connecting);
}

typedef struct {
    int is_above;      /* of the mean of the live workers, by so much that others should take the next connection */
    int is_below;      /* of that mean */
    uint64_t progress; /* what all others have accepted so far */
} fa_load;

/* How the connections of `mine` stand beside those of the other workers. */
static inline fa_load fa_board_load(const fa_board *board, const fa_slot *mine, int64_t now_ns) {
    uint64_t n = fa_seen(&board->n_used), held = fa_slot_held(mine), total = held, live = 1, slack, i;
    fa_load load = {0, 0, 0};
    for (i = 0; i < n; i++) {
        const fa_slot *slot = &board->slots[i];
        if (slot == mine) continue;
        load.progress += fa_seen(&slot->accepted) + fa_seen(&slot->connecting);
        if (fa_slot_is_live(slot, now_ns)) {
            total += fa_slot_held(slot);
            live++;
        }
    }
    slack = total >> FA_SLACK_SHIFT > live ? total >> FA_SLACK_SHIFT : live; /* both times live */
    load.is_above = live > 1 && held * live > total + slack;
    load.is_below = held * live < total;
    return load;
}

#endif
