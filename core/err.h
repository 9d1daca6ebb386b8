/* Errors for people.
 *
 * Functions return 0 or -errno. Where the fact is known that a person needs (which file, which
 * limit, what to do), the text is made there and travels in a struct err to the edge: the command
 * line, later the API. Guest faults never take this way; see virtio_fail().
 */
#ifndef MAYFLY_CORE_ERR_H
#define MAYFLY_CORE_ERR_H

struct err {
    int code;      /* positive errno, 0 while nothing went wrong */
    char msg[512]; /* "thing: reason: remedy", one line, no newline */
};

/* Fills *e and returns -code. Control bytes in the text (from a file name, say) become '?'.
 * Any thread; *e is the caller's. */
__attribute__((format(printf, 3, 4))) int err_set(struct err *e, int code, const char *fmt, ...);

/* The remedy that ends a message: of the host's shortage where code tells of one (descriptors,
 * memory, space), else otherwise. */
const char *err_remedy(int code, const char *otherwise);

#endif
