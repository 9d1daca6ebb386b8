/* RELRO for a static PIE. */
#ifndef MAYFLY_CORE_RELRO_H
#define MAYFLY_CORE_RELRO_H

/* Makes the relocated constants (the PT_GNU_RELRO range) read-only. A dynamic linker does this;
 * musl's start code of a static PIE does not. First thing in main. 0 or -errno. */
int relro_protect(void);

#endif
