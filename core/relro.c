/* See relro.h. */
#include "core/relro.h"

#include <elf.h>
#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>

/* The linker's: the file header, which the first segment maps. */
extern const Elf64_Ehdr ehdr __asm__("__ehdr_start") __attribute__((visibility("hidden")));

int relro_protect(void)
{
    uintptr_t base = (uintptr_t)&ehdr;
    const Elf64_Phdr *ph = (const void *)(base + ehdr.e_phoff);

    for (unsigned i = 0; i < ehdr.e_phnum; i++)
        if (ph[i].p_type == PT_GNU_RELRO) {
            uintptr_t start = (base + ph[i].p_vaddr) & ~(uintptr_t)4095;
            uintptr_t end = (base + ph[i].p_vaddr + ph[i].p_memsz) & ~(uintptr_t)4095;

            if (end > start && mprotect((void *)start, end - start, PROT_READ) < 0)
                return -errno;
        }
    return 0;
}
