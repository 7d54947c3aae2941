/* What a process still does when a fatal signal ends it. No state: the caller keeps the handlers that were there. */
#ifndef FA_FATAL_H
#define FA_FATAL_H

#include <stddef.h>

#define FA_FATAL_SIGNALS 7

#ifdef _WIN32

typedef struct {
    int unused;
} fa_fatal;

static inline void fa_fatal_install(fa_fatal *before, void (*handler)(int)) { (void)before; (void)handler; }
static inline void fa_fatal_restore(fa_fatal *before, void (*handler)(int)) { (void)before; (void)handler; }
static inline void fa_fatal_pass_on(fa_fatal *before, int number) { (void)before; (void)number; }
static inline void fa_fatal_write(int fd, const char *p, size_t n) { (void)fd; (void)p; (void)n; }
static inline int fa_process(void) { return 0; }

#else

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

/* Crashes, and two signals that end a process at once unless somebody handles them. */
static const int fa_fatal_numbers[FA_FATAL_SIGNALS] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGHUP, SIGQUIT};

typedef struct {
    struct sigaction before[FA_FATAL_SIGNALS];
} fa_fatal;

static inline int fa_is_crash(int number) { return number != SIGHUP && number != SIGQUIT; }

/* Have `handler` called for each fatal signal; SIGHUP and SIGQUIT only where they would end the process. */
static inline void fa_fatal_install(fa_fatal *all, void (*handler)(int)) {
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_handler = handler;
    action.sa_flags = SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < FA_FATAL_SIGNALS; i++) {
        struct sigaction *before = &all->before[i];
        sigaction(fa_fatal_numbers[i], NULL, before);
        if (fa_is_crash(fa_fatal_numbers[i]) || before->sa_handler == SIG_DFL)
            sigaction(fa_fatal_numbers[i], &action, NULL);
    }
}

/* Undo it, where nobody else has taken the signal meanwhile. */
static inline void fa_fatal_restore(fa_fatal *all, void (*handler)(int)) {
    struct sigaction now;
    for (int i = 0; i < FA_FATAL_SIGNALS; i++) {
        sigaction(fa_fatal_numbers[i], NULL, &now);
        if (now.sa_handler == handler)
            sigaction(fa_fatal_numbers[i], &all->before[i], NULL);
    }
}

/* In the handler: let the signal do what it would have done without us. */
static inline void fa_fatal_pass_on(fa_fatal *all, int number) {
    for (int i = 0; i < FA_FATAL_SIGNALS; i++)
        if (fa_fatal_numbers[i] == number)
            sigaction(number, &all->before[i], NULL);
    raise(number); /* blocked until the handler returns */
}

/* Write what a descriptor takes within a tenth of a second: whoever reads it may sleep. */
static inline void fa_fatal_write(int fd, const char *p, size_t n) {
    while (n) {
        struct pollfd ready = {fd, POLLOUT, 0};
        if (poll(&ready, 1, 100) <= 0)
            return;
        ssize_t done = write(fd, p, n < 512 ? n : 512); /* _POSIX_PIPE_BUF: taken whole where poll() says so */
        if (done <= 0)
            return;
        p += done;
        n -= (size_t)done;
    }
}

static inline int fa_process(void) { return (int)getpid(); }

#endif
#endif
