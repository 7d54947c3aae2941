"""What `_socket.pyx`, `_poller.pyx` and the load clients below `bench/` use of Linux: epoll and sockets.

accept4 needs _GNU_SOURCE, which Python.h sets.
"""

from libc.stdint cimport uint32_t, uint64_t


cdef extern from "sys/epoll.h" nogil:
    cdef struct epoll_event:
        uint32_t events
        uint64_t u64 "data.u64"
        int fd "data.fd"

    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int operation, int fd, epoll_event *event)
    int epoll_wait(int epfd, epoll_event *events, int n, int timeout_ms)
    enum:
        EPOLL_CLOEXEC
        EPOLL_CTL_ADD
        EPOLL_CTL_DEL
        EPOLL_CTL_MOD
    const uint32_t EPOLLIN, EPOLLPRI, EPOLLOUT, EPOLLRDHUP, EPOLLHUP, EPOLLERR, EPOLLET, EPOLLEXCLUSIVE

cdef extern from "sys/socket.h" nogil:
    struct sockaddr:
        unsigned short sa_family
    struct sockaddr_storage:
        unsigned short ss_family
    struct iovec:
        void *iov_base
        size_t iov_len
    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    struct linger:
        int l_onoff
        int l_linger
    ctypedef uint32_t socklen_t
    int accept4(int fd, sockaddr *address, socklen_t *n, int flags)
    int socket(int family, int kind, int protocol)
    int connect(int fd, const sockaddr *address, socklen_t n)
    int getpeername(int fd, sockaddr *address, socklen_t *n)
    int getsockname(int fd, sockaddr *address, socklen_t *n)
    int setsockopt(int fd, int level, int name, const void *value, socklen_t n)
    int shutdown(int fd, int how)
    ssize_t recv(int fd, void *p, size_t n, int flags)
    ssize_t send(int fd, const void *p, size_t n, int flags)
    ssize_t sendmsg(int fd, const msghdr *message, int flags)
    enum:
        SOCK_STREAM
        SOCK_NONBLOCK
        SOCK_CLOEXEC
        SOL_SOCKET
        SO_LINGER
        SO_OOBINLINE
        MSG_NOSIGNAL
        MSG_PEEK
        SHUT_WR
        SHUT_RDWR
        AF_INET
        AF_INET6
        AF_UNIX

cdef extern from "netinet/in.h" nogil:
    struct in_addr:
        pass
    struct sockaddr_in:
        unsigned short sin_port
        in_addr sin_addr
    struct in6_addr:
        pass
    struct sockaddr_in6:
        unsigned short sin6_port
        in6_addr sin6_addr
    unsigned short ntohs(unsigned short port)
    enum:
        IPPROTO_TCP

cdef extern from "netinet/tcp.h" nogil:
    enum:
        TCP_NODELAY

cdef extern from "arpa/inet.h" nogil:
    const char *inet_ntop(int family, const void *address, char *text, socklen_t n)

cdef extern from "unistd.h" nogil:
    int close(int fd)
