"""What _request.pyx uses of llhttp 9.4 (csrc/llhttp/include/llhttp.h); no other module may cimport this."""

from libc.stdint cimport uint8_t, uint16_t, uint64_t


cdef extern from "llhttp.h" nogil:
    ctypedef struct llhttp_t:
        void *_span_pos0        # start of the span being read, or NULL
        const char *reason
        const char *error_pos
        void *data
        uint64_t content_length
        uint8_t method
        uint8_t header_state    # what the value of a field that it knows is read as: the number of the name, 0 for none
        uint8_t http_major
        uint8_t http_minor
        uint8_t upgrade
        uint16_t flags

    ctypedef int (*llhttp_data_cb)(llhttp_t *, const char *at, size_t length) noexcept nogil
    ctypedef int (*llhttp_cb)(llhttp_t *) noexcept nogil

    ctypedef struct llhttp_settings_t:
        llhttp_data_cb on_url
        llhttp_data_cb on_protocol
        llhttp_data_cb on_version
        llhttp_data_cb on_header_field
        llhttp_data_cb on_header_value
        llhttp_data_cb on_chunk_extension_name
        llhttp_data_cb on_chunk_extension_value
        llhttp_data_cb on_body
        llhttp_cb on_version_complete
        llhttp_cb on_header_field_complete
        llhttp_cb on_headers_complete
        llhttp_cb on_message_complete
        llhttp_cb on_chunk_header
        llhttp_cb on_chunk_complete

    ctypedef enum llhttp_type_t:
        HTTP_REQUEST

    ctypedef enum llhttp_errno_t:
        HPE_OK
        HPE_UNEXPECTED_CONTENT_LENGTH
        HPE_INVALID_METHOD
        HPE_INVALID_VERSION
        HPE_INVALID_CONTENT_LENGTH
        HPE_INVALID_TRANSFER_ENCODING
        HPE_LF_EXPECTED
        HPE_CR_EXPECTED
        HPE_PAUSED

    enum:
        F_CONNECTION_KEEP_ALIVE
        F_CONNECTION_CLOSE
        F_CHUNKED
        F_CONTENT_LENGTH
        F_TRANSFER_ENCODING

    void llhttp_init(llhttp_t *parser, llhttp_type_t kind, const llhttp_settings_t *settings)
    void llhttp_settings_init(llhttp_settings_t *settings)
    llhttp_errno_t llhttp_execute(llhttp_t *parser, const char *data, size_t n)
    void llhttp_resume(llhttp_t *parser)
