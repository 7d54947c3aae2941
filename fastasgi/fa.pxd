"""Our own C (csrc/fa_*.h) as Cython sees it."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "fa_text.h" nogil:
    const size_t FA_DATE_SIZE

    ctypedef struct fa_target:
        size_t path_len
        bint has_escape
        bint is_valid

    bint fa_is_token(const char *p, size_t n)
    bint fa_is_field_value(const char *p, size_t n)
    void fa_lower(char *dst, const char *src, size_t n)
    bint fa_equals_lower(const char *p, const char *wanted, size_t n)
    uint32_t fa_sample_hash(const char *p, size_t n, uint32_t seed)
    bint fa_is_host(const char *p, size_t n)
    fa_target fa_scan_target(const char *p, size_t n)
    size_t fa_percent_decode(char *dst, const char *src, size_t n)
    void fa_date(char *dst, int64_t unix_s)
    size_t fa_hex(char *dst, uint64_t n)
    size_t fa_decimal(char *dst, uint64_t n)
    int fa_parse_decimal(const char *p, size_t n, uint64_t *value)


cdef extern from "fa_address.h" nogil:
    const size_t FA_ADDRESS_TEXT

    ctypedef struct fa_network:
        uint8_t address[16]
        uint8_t bits

    int fa_parse_address(const char *p, size_t n, uint8_t *address)
    size_t fa_format_address(char *dst, const uint8_t *address)
    bint fa_is_within(const uint8_t *address, const fa_network *networks, size_t n)


cdef extern from "fa_forwarded.h" nogil:
    ctypedef struct fa_trust:
        const fa_network *networks
        size_t n
        uint8_t everybody
        uint8_t unix_peers

    const int FA_NODE_NONE
    const int FA_NODE_ADDRESS
    const int FA_NODE_NAME
    const int FA_NODE_BAD

    ctypedef struct fa_node:
        const char *name
        size_t name_n
        uint8_t address[16]
        uint16_t port
        uint8_t kind

    ctypedef struct fa_span:
        const char *p
        size_t n

    ctypedef struct fa_walk:
        fa_node client
        fa_span proto
        fa_span host
        uint32_t back
        uint32_t total

    void fa_walk_for(fa_walk *walk, const char *p, size_t n, const fa_trust *trust)
    void fa_walk_forwarded(fa_walk *walk, const char *p, size_t n, const fa_trust *trust)


cdef extern from "fa_proxy.h" nogil:
    const size_t FA_PROXY_PATH

    ctypedef enum fa_proxy_kind:
        FA_PROXY_MORE
        FA_PROXY_BAD
        FA_PROXY_LOCAL
        FA_PROXY_UNKNOWN
        FA_PROXY_ADDRESSES
        FA_PROXY_PATHS

    ctypedef struct fa_proxy_header:
        fa_proxy_kind kind
        size_t size
        const char *fault
        uint8_t source[16]
        uint8_t destination[16]
        uint16_t source_port
        uint16_t destination_port
        const char *source_path
        const char *destination_path

    fa_proxy_header fa_read_proxy_header(const char *p, size_t n)


cdef extern from "fa_limits.h" nogil:
    ctypedef struct fa_limits:
        uint64_t body_bytes
        uint64_t chunk_extension_bytes
        uint32_t line_bytes
        uint32_t head_bytes
        uint32_t fields
        uint8_t underscores

    const uint64_t FA_UNLIMITED
    const uint8_t FA_UNDERSCORES_DROP_FORWARDED
    const uint8_t FA_UNDERSCORES_DROP
    const uint8_t FA_UNDERSCORES_KEEP


cdef extern from "fa_deadline.h" nogil:
    ctypedef struct fa_deadline:
        fa_deadline *prev
        fa_deadline *next
        int64_t due_ns
        void *owner

    void fa_deadline_init_list(fa_deadline *list)
    void fa_deadline_clear(fa_deadline *d)
    void fa_deadline_arm(fa_deadline *list, fa_deadline *d, int64_t due_ns)
    fa_deadline *fa_deadline_pop(fa_deadline *list, int64_t now_ns)


cdef extern from "fa_unsent.h" nogil:
    uint32_t fa_unsent(int fd)


cdef extern from "fa_clock.h" nogil:
    int64_t fa_monotonic_ns()


cdef extern from "fa_scoreboard.h" nogil:
    enum:
        FA_LATENCY_BUCKETS
        FA_GONE
        FA_BOOTING
        FA_READY
        FA_DRAINING

    ctypedef struct fa_slot:
        int64_t heartbeat_ns
        uint64_t state
        uint64_t pid
        uint64_t generation
        int64_t started_ns
        int64_t lag_ns
        uint64_t rss_bytes
        uint64_t sample_mask
        uint64_t connections
        uint64_t accepted
        uint64_t requests_active
        uint64_t requests_total
        uint64_t answers
        uint64_t errors
        uint64_t connecting
        uint64_t *latency

    ctypedef struct fa_board:
        uint64_t n_slots
        uint64_t n_used
        fa_slot *slots

    unsigned fa_latency_bucket(int64_t ns)
    uint64_t fa_latency_bound(unsigned bucket)
    bint fa_slot_samples(fa_slot *slot)
    bint fa_slot_is_live(const fa_slot *slot, int64_t now_ns)

    ctypedef struct fa_load:
        bint is_above
        bint is_below
        uint64_t progress

    fa_load fa_board_load(const fa_board *board, const fa_slot *mine, int64_t now_ns)


cdef extern from "fa_websocket.h" nogil:
    const uint8_t FA_WS_CONTINUATION
    const uint8_t FA_WS_TEXT
    const uint8_t FA_WS_BINARY
    const uint8_t FA_WS_CLOSE
    const uint8_t FA_WS_PING
    const uint8_t FA_WS_PONG
    const uint8_t FA_WS_FIN
    const uint8_t FA_WS_RSV1
    const int FA_WS_BAD_RSV
    const int FA_WS_BAD_OPCODE
    const int FA_WS_CUT_CONTROL
    const int FA_WS_BIG_CONTROL
    const int FA_WS_NO_MASK
    const int FA_WS_BAD_LENGTH
    const uint64_t FA_WS_NOT_ASCII
    const uint32_t FA_UTF8_BAD

    ctypedef struct fa_ws_header:
        uint64_t length
        uint8_t first
        uint8_t key[4]

    int fa_ws_read_header(const uint8_t *p, size_t n, fa_ws_header *header)
    size_t fa_ws_write_header(char *out, uint8_t first, uint64_t length)
    uint64_t fa_ws_unmask(char *out, const char *src, size_t n, const uint8_t *key, uint64_t offset)
    uint32_t fa_utf8_step(uint32_t state, const char *p, size_t n)
    bint fa_ws_is_close_code(uint32_t code)


cdef extern from "fa_fatal.h" nogil:
    ctypedef struct fa_fatal:
        pass

    void fa_fatal_install(fa_fatal *before, void (*handler)(int) noexcept)
    void fa_fatal_restore(fa_fatal *before, void (*handler)(int) noexcept)
    void fa_fatal_pass_on(fa_fatal *before, int number)
    void fa_fatal_write(int fd, const char *p, size_t n)
    int fa_process()
