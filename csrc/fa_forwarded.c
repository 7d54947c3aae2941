#include "fa_forwarded.h"

#include <string.h>

#include "fa_text.h"

static const size_t max_name = 64; /* bytes of an identifier; longer ones are no identifiers */

static int is_blank(char c) { return c == ' ' || c == '\t'; }

static fa_span trimmed(const char *p, size_t n) {
    while (n && is_blank(p[n - 1])) n--;
    while (n && is_blank(*p)) p++, n--;
    return (fa_span){p, n};
}

/* --- nodes ------------------------------------------------------------------------------------------------------- */

/* obfnode = "_" 1*( ALPHA / DIGIT / "." / "_" / "-") */
static int is_obfuscated(const char *p, size_t n) {
    if (n < 2 || n > max_name || p[0] != '_') return 0;
    for (size_t i = 1; i < n; i++) {
        uint8_t letter = (uint8_t)((p[i] | 0x20) - 'a'), digit = (uint8_t)(p[i] - '0');
        if (letter > 25 && digit > 9 && p[i] != '.' && p[i] != '_' && p[i] != '-') return 0;
    }
    return 1;
}

/* node-port = 1*5DIGIT / obfport; 0 when it is neither. */
static int read_port(const char *p, size_t n, uint16_t *port) {
    uint64_t value;
    if (is_obfuscated(p, n)) return 1;
    if (n > 5 || fa_parse_decimal(p, n, &value) < 0 || value > 65535) return 0;
    *port = (uint16_t)value;
    return 1;
}

fa_node fa_read_node(const char *p, size_t n) {
    fa_node node = {.kind = FA_NODE_BAD};
    const char *colon = memchr(p, ':', n), *bracket;
    size_t host_n = n;
    int family = 0;
    if (n == 5 && memcmp(p, "unix:", 5) == 0) { /* what nginx calls the client of a Unix socket */
        node.kind = FA_NODE_NAME, node.name = p, node.name_n = n;
        return node;
    }
    if (n && p[0] == '[') {
        bracket = memchr(p, ']', n);
        if (bracket == NULL) return node;
        host_n = (size_t)(bracket - p) + 1;
        family = fa_parse_address(p + 1, host_n - 2, node.address);
        if (family != 6) return node;
    } else {
        if (colon != NULL && memchr(colon + 1, ':', (size_t)(p + n - colon - 1)) == NULL) host_n = (size_t)(colon - p);
        family = fa_parse_address(p, host_n, node.address);
    }
    if (host_n < n && (p[host_n] != ':' || !read_port(p + host_n + 1, n - host_n - 1, &node.port))) return node;
    if (family) {
        node.kind = FA_NODE_ADDRESS;
    } else if ((host_n == 7 && fa_equals_lower(p, "unknown", 7)) || is_obfuscated(p, host_n)) {
        node.kind = FA_NODE_NAME, node.name = p, node.name_n = host_n;
    }
    return node;
}

static int is_trusted(const fa_node *node, const fa_trust *trust) {
    if (trust->everybody) return 1;
    if (node->kind == FA_NODE_NAME) return trust->unix_peers && node->name_n == 5 && node->name[4] == ':';
    return node->kind == FA_NODE_ADDRESS && fa_is_within(node->address, trust->networks, trust->n);
}

/* The walk comes to the next element on the left. */
static void step(fa_walk *walk, fa_node node, const fa_trust *trust) {
    walk->client = node;
    walk->back = walk->total - 1;
    walk->is_over = !is_trusted(&node, trust);
}

/* --- X-Forwarded-For --------------------------------------------------------------------------------------------- */

void fa_walk_for(fa_walk *walk, const char *p, size_t n, const fa_trust *trust) {
    size_t end = n;
    for (;;) {
        size_t first = end;
        while (first && p[first - 1] != ',') first--;
        fa_span element = trimmed(p + first, end - first);
        if (element.n) { /* empty ones do not count (RFC 9110 section 5.6.1) */
            walk->total++;
            if (!walk->is_over) step(walk, fa_read_node(element.p, element.n), trust);
        }
        if (first == 0) return;
        end = first - 1;
    }
}

/* --- Forwarded --------------------------------------------------------------------------------------------------- */

/* Where the last element of n bytes begins: behind the last comma that stands in no quotation. The right end is outside
 * of any, and an opening mark has no backslash before it, so this needs nothing on the left. A mark without its
 * partner gives SIZE_MAX. */
static size_t last_element(const char *p, size_t n) {
    int is_quoted = 0;
    while (n) {
        char c = p[n - 1];
        if (c == '"') {
            size_t slashes = 0;
            while (is_quoted && slashes + 1 < n && p[n - 2 - slashes] == '\\') slashes++;
            if (slashes % 2 == 0) is_quoted = !is_quoted;
            n -= slashes;
        } else if (c == ',' && !is_quoted) {
            return n;
        }
        n--;
    }
    return is_quoted ? SIZE_MAX : 0;
}

/* One pair, name=value or name="value", at *p; moves *p behind it. Returns 0 when it is none. */
static int read_pair(const char **p, const char *end, fa_span *name, fa_span *value) {
    const char *at = *p;
    name->p = at;
    while (at < end && *at != '=') at++;
    name->n = (size_t)(at - name->p);
    if (at == end || !fa_is_token(name->p, name->n)) return 0;
    at++;
    value->p = at;
    if (at < end && *at == '"') {
        value->p = ++at;
        while (at < end && *at != '"') {
            if (*at == '\\') at++;
            if (at < end) at++;
        }
        if (at >= end) return 0;
        value->n = (size_t)(at++ - value->p);
    } else { /* more than a token: addresses with colons are often sent without the marks that they need */
        while (at < end && *at != ';' && *at != '"' && !is_blank(*at)) at++;
        value->n = (size_t)(at - value->p);
    }
    while (at < end && is_blank(*at)) at++;
    if (at < end && *at++ != ';') return 0;
    *p = at;
    return 1;
}

/* The parameters of one element that mean something here; 0 when it is malformed. Each may be there once. */
static int read_element(fa_span element, fa_span *node, fa_span *proto, fa_span *host) {
    const char *p = element.p, *end = element.p + element.n;
    fa_span name, value;
    while (p < end) {
        fa_span *found = NULL;
        if (*p == ';' || is_blank(*p)) { /* empty pairs are allowed */
            p++;
            continue;
        }
        if (!read_pair(&p, end, &name, &value)) return 0;
        if (name.n == 3 && fa_equals_lower(name.p, "for", 3)) found = node;
        if (name.n == 5 && fa_equals_lower(name.p, "proto", 5)) found = proto;
        if (name.n == 4 && fa_equals_lower(name.p, "host", 4)) found = host;
        if (found == NULL) continue;
        if (found->p != NULL) return 0;
        *found = value;
    }
    return 1;
}

/* The walk comes to one more element on the left. `is_broken`: nobody can say where it begins. */
static void step_forwarded(fa_walk *walk, fa_span element, int is_broken, const fa_trust *trust) {
    fa_span node = {NULL, 0}, proto = {NULL, 0}, host = {NULL, 0};
    fa_node client = {.kind = FA_NODE_BAD};
    int is_whole = !is_broken && read_element(element, &node, &proto, &host);
    if (!is_whole)
        proto.p = host.p = NULL;
    else if (node.p != NULL)
        client = fa_read_node(node.p, node.n);
    else if (walk->total == 1)
        client.kind = FA_NODE_NONE; /* our own peer does not speak of addresses: the client is left as it was */
    step(walk, client, trust);
    if (is_broken || client.kind == FA_NODE_NONE) walk->is_over = 1;
    walk->proto = proto;
    walk->host = host;
}

void fa_walk_forwarded(fa_walk *walk, const char *p, size_t n, const fa_trust *trust) {
    size_t end = n;
    for (;;) {
        size_t first = last_element(p, end);
        int is_broken = first == SIZE_MAX;
        if (is_broken) first = 0;
        fa_span element = trimmed(p + first, end - first);
        if (element.n) {
            walk->total++;
            if (!walk->is_over) step_forwarded(walk, element, is_broken, trust);
        }
        if (first == 0) return;
        end = first - 1;
    }
}
