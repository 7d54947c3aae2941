/* Deadlines without timers: one list per timeout, each ordered by due time because its timeout is constant.
 *
 * Arming is unlinking and appending at the tail; a sweep looks at the heads only. An entry lives inside its owner,
 * which must clear it before it goes. Nothing is allocated. */
#ifndef FA_DEADLINE_H
#define FA_DEADLINE_H

#include <stddef.h>
#include <stdint.h>

typedef struct fa_deadline {
    struct fa_deadline *prev, *next; /* NULL, NULL while not armed; the list's sentinel points at itself */
    int64_t due_ns;                  /* monotonic clock */
    void *owner;                     /* borrowed */
} fa_deadline;

static inline void fa_deadline_init_list(fa_deadline *list) {
    list->prev = list->next = list;
    list->due_ns = 0;
    list->owner = NULL;
}

static inline void fa_deadline_clear(fa_deadline *d) {
    if (d->next) {
        d->prev->next = d->next;
        d->next->prev = d->prev;
        d->prev = d->next = NULL;
    }
}

static inline void fa_deadline_arm(fa_deadline *list, fa_deadline *d, int64_t due_ns) {
    fa_deadline_clear(d);
    d->due_ns = due_ns;
    d->prev = list->prev;
    d->next = list;
    list->prev->next = d;
    list->prev = d;
}

/* The first entry when it is due, unlinked; else NULL. */
static inline fa_deadline *fa_deadline_pop(fa_deadline *list, int64_t now_ns) {
    fa_deadline *first = list->next;
    if (first == list || first->due_ns > now_ns) return NULL;
    fa_deadline_clear(first);
    return first;
}

#endif
