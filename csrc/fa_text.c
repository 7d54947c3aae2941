#include "fa_text.h"

#include <string.h>

/* tchar = "!" / "#" / "$" / "%" / "&" / "'" / "*" / "+" / "-" / "." / "^" / "_" / "`" / "|" / "~" / DIGIT / ALPHA */
static const uint8_t token_bits[32] = {
    0x00, 0x00, 0x00, 0x00, /* 0x00-0x1f */
    0xfa, 0x6c, 0xff, 0x03, /* 0x20-0x3f */
    0xfe, 0xff, 0xff, 0xc7, /* 0x40-0x5f */
    0xff, 0xff, 0xff, 0x57, /* 0x60-0x7f */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
};

static int is_tchar(uint8_t c) { return (token_bits[c >> 3] >> (c & 7)) & 1; }

int fa_is_token(const char *p, size_t n) {
    if (n == 0) return 0;
    for (size_t i = 0; i < n; i++)
        if (!is_tchar((uint8_t)p[i])) return 0;
    return 1;
}

int fa_is_field_value(const char *p, size_t n) {
    /* No early exit: the loop is one OR over all bytes, which the compiler turns into vectors. */
    unsigned bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint8_t c = (uint8_t)p[i];
        bad |= (unsigned)((c < 0x20) & (c != '\t')) | (unsigned)(c == 0x7f);
    }
    return !bad;
}

static uint8_t lower(uint8_t c) { return (uint8_t)(c | (((uint8_t)(c - 'A') < 26) << 5)); }

void fa_lower(char *dst, const char *src, size_t n) {
    for (size_t i = 0; i < n; i++) dst[i] = (char)lower((uint8_t)src[i]);
}

int fa_equals_lower(const char *p, const char *wanted, size_t n) {
    unsigned differs = 0;
    for (size_t i = 0; i < n; i++) differs |= lower((uint8_t)p[i]) ^ (uint8_t)wanted[i];
    return !differs;
}

static uint64_t load64(const char *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

static uint32_t load32(const char *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

uint32_t fa_sample_hash(const char *p, size_t n, uint32_t seed) {
    uint64_t sample;
    if (n >= 8)
        sample = load64(p) ^ load64(p + n - 8) * 0x9e3779b97f4a7c15u;
    else if (n >= 4)
        sample = load32(p) ^ (uint64_t)load32(p + n - 4) << 32;
    else
        sample = n ? (uint64_t)(uint8_t)p[0] << 16 | (uint64_t)(uint8_t)p[n / 2] << 8 | (uint8_t)p[n - 1] : 0;
    sample = (sample ^ seed ^ n << 7) * 0xff51afd7ed558ccdu;
    return (uint32_t)(sample >> 32);
}

/* ALPHA / DIGIT / "-._~" / "!$&'()*+,;=" without "," (a list) / "%" / ":" / "[" / "]" */
static const uint8_t host_bits[16] = {
    0x00, 0x00, 0x00, 0x00, /* 0x00-0x1f */
    0xf2, 0x6f, 0xff, 0x2f, /* 0x20-0x3f */
    0xfe, 0xff, 0xff, 0xaf, /* 0x40-0x5f */
    0xfe, 0xff, 0xff, 0x47, /* 0x60-0x7f */
};

static int is_host_byte(uint8_t c) { return c < 0x80 && (host_bits[c >> 3] >> (c & 7)) & 1; }

static int hex_value(uint8_t c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

int fa_is_host(const char *p, size_t n) {
    size_t end = n, i = 0;
    while (end > 0 && (uint8_t)(p[end - 1] - '0') <= 9) end--;
    if (end > 0 && p[end - 1] == ':')
        end--; /* a port, perhaps empty */
    else
        end = n;
    if (i < end && p[i] == '[') { /* IP-literal: hexadecimal digits, colons, dots; nothing behind the bracket */
        for (i++; i < end && p[i] != ']'; i++)
            if (!is_host_byte((uint8_t)p[i]) || p[i] == '[') return 0;
        return i + 1 == end && i > 1;
    }
    for (; i < end; i++) {
        if (!is_host_byte((uint8_t)p[i]) || p[i] == ':' || p[i] == '[' || p[i] == ']') return 0;
        if (p[i] == '%' && (end - i < 3 || hex_value((uint8_t)p[i + 1]) < 0 || hex_value((uint8_t)p[i + 2]) < 0)) return 0;
    }
    return end > 0 || n == 0;
}

fa_target fa_scan_target(const char *p, size_t n) {
    fa_target found = {n, 0, 1};
    size_t i = 0;
    for (; i < n; i++) {
        uint8_t c = (uint8_t)p[i];
        if (c == '?') {
            found.path_len = i;
            break;
        }
        if (c == '%') found.has_escape = 1;
        if (c <= 0x20 || c >= 0x7f || c == '#') found.is_valid = 0;
    }
    unsigned bad = 0;
    for (; i < n; i++) {
        uint8_t c = (uint8_t)p[i];
        bad |= (unsigned)(c <= 0x20) | (unsigned)(c >= 0x7f) | (unsigned)(c == '#');
    }
    if (bad) found.is_valid = 0;
    return found;
}

size_t fa_percent_decode(char *dst, const char *src, size_t n) {
    size_t out = 0;
    for (size_t i = 0; i < n; i++) {
        if (src[i] == '%' && n - i > 2) {
            int high = hex_value((uint8_t)src[i + 1]), low = hex_value((uint8_t)src[i + 2]);
            if (high >= 0 && low >= 0) {
                dst[out++] = (char)(high * 16 + low);
                i += 2;
                continue;
            }
        }
        dst[out++] = src[i];
    }
    return out;
}

static void two_digits(char *dst, unsigned n) {
    dst[0] = (char)('0' + n / 10 % 10);
    dst[1] = (char)('0' + n % 10);
}

void fa_date(char *dst, int64_t unix_s) {
    static const char days[] = "ThuFriSatSunMonTueWed";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    int64_t day_number = unix_s / 86400;
    unsigned second = (unsigned)(unix_s % 86400);
    /* Days since 0000-03-01 to year, month, day: eras of 400 years, months counted from March. */
    int64_t z = day_number + 719468;
    int64_t era = z / 146097;
    unsigned day_of_era = (unsigned)(z - era * 146097);
    unsigned year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    unsigned day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned shifted = (5 * day_of_year + 2) / 153;
    unsigned day = day_of_year - (153 * shifted + 2) / 5 + 1;
    unsigned month = shifted < 10 ? shifted + 3 : shifted - 9;
    unsigned year = (unsigned)(year_of_era + era * 400) + (month <= 2);

    memcpy(dst, "Thu, 00 Jan 0000 00:00:00 GMT", FA_DATE_SIZE);
    memcpy(dst, days + 3 * (day_number % 7), 3);
    two_digits(dst + 5, day);
    memcpy(dst + 8, months + 3 * (month - 1), 3);
    two_digits(dst + 12, year / 100);
    two_digits(dst + 14, year % 100);
    two_digits(dst + 17, second / 3600);
    two_digits(dst + 20, second / 60 % 60);
    two_digits(dst + 23, second % 60);
}

size_t fa_hex(char *dst, uint64_t n) {
    static const char digits[] = "0123456789abcdef";
    size_t count = 1;
    for (uint64_t rest = n >> 4; rest; rest >>= 4) count++;
    for (size_t i = count; i-- > 0; n >>= 4) dst[i] = digits[n & 15];
    return count;
}

size_t fa_decimal(char *dst, uint64_t n) {
    size_t count = 1;
    for (uint64_t rest = n / 10; rest; rest /= 10) count++;
    for (size_t i = count; i-- > 0; n /= 10) dst[i] = (char)('0' + n % 10);
    return count;
}

int fa_parse_decimal(const char *p, size_t n, uint64_t *value) {
    uint64_t total = 0;
    if (n == 0) return -1;
    for (size_t i = 0; i < n; i++) {
        unsigned digit = (uint8_t)p[i] - (unsigned)'0';
        if (digit > 9) return -1;
        if (total > (UINT64_MAX - digit) / 10) return -1;
        total = total * 10 + digit;
    }
    *value = total;
    return 0;
}
