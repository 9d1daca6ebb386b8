/* Loading of initrds; see initrd.h.
 *
 * Linux unpacks one area that may hold several archives, compressed or not, one after the other,
 * and looks for the next at a multiple of 4 bytes: each is padded to that with zeros.
 */
#include "boot/initrd.h"

#include <errno.h>
#include <string.h>

#include "core/num.h"

#define PAD 4

int initrds_open(struct initrds *r, const struct boot_config *c, struct err *e)
{
    int ret = 0;

    *r = (struct initrds){ 0 };
    if (c->n_initrds > BOOT_INITRDS_MAX)
        return err_set(e, E2BIG, "initrd: %d files, at most %d are taken: join some with cat",
                       c->n_initrds, BOOT_INITRDS_MAX);
    for (int i = 0; i < c->n_initrds && ret == 0; i++) {
        struct file *f = &r->file[i];
        uint64_t padded;

        ret = file_open(f, "initrd", c->initrds[i], e);
        if (ret)
            break;
        r->n++;
        if (!align_up_u64(f->size, PAD, &padded) || !add_u64(r->size, padded, &r->size))
            ret = err_set(e, EFBIG, "initrd %s: is too large: no memory holds it", f->path);
    }
    if (ret)
        initrds_close(r);
    return ret;
}

int initrds_load(const struct initrds *r, struct gmem *m, gpa_t base, struct err *e)
{
    for (int i = 0; i < r->n; i++) {
        const struct file *f = &r->file[i];
        uint64_t padded = (f->size + PAD - 1) & ~(uint64_t)(PAD - 1);
        uint8_t *to = gmem_span(m, base, padded);

        if (!to)
            return err_set(e, EFAULT, "initrd %s: does not fit into memory: raise --memory",
                           f->path);
        int ret = file_read(f, 0, to, f->size, e);

        if (ret)
            return ret;
        memset(to + f->size, 0, padded - f->size);
        base.v += padded;
    }
    return 0;
}

void initrds_close(struct initrds *r)
{
    for (int i = 0; i < r->n; i++)
        file_close(&r->file[i]);
}
