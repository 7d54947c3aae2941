/* What the kernel still holds of what was written to a socket. */
#ifndef FA_UNSENT_H
#define FA_UNSENT_H

#include <stdint.h>

#ifdef __linux__
#include <sys/ioctl.h>
#elif !defined(_WIN32)
#include <sys/socket.h>
#endif

/* Bytes that the peer has not taken; 0 where that cannot be told. */
static inline uint32_t fa_unsent(int fd) {
    int n = 0;
#ifdef __linux__
    if (ioctl(fd, TIOCOUTQ, &n) < 0) {
        return 0;
    }
#elif defined(SO_NWRITE)
    socklen_t size = sizeof(n);
    if (getsockopt(fd, SOL_SOCKET, SO_NWRITE, &n, &size) < 0) {
        return 0;
    }
#endif
    (void)fd;
    return (uint32_t)n;
}

#endif
