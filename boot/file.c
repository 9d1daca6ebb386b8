/* Reading of boot files; see file.h.
 *
 * Only regular files: their size is known before a byte is read, so memory can be planned, and
 * opening one never blocks. Data goes straight to its place in guest memory with as few reads as
 * the kernel allows; the file may change meanwhile, so every read is checked on its own.
 */
#include "boot/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *file_kind(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFDIR:
        return "a directory";
    case S_IFIFO:
        return "a pipe";
    case S_IFCHR:
        return "a character device";
    case S_IFBLK:
        return "a block device";
    default:
        return "a socket";
    }
}

static int file_check(struct file *f, struct err *e)
{
    struct stat st;

    if (fstat(f->fd, &st) < 0)
        return err_set(e, errno, "%s %s: %s: can't tell its size", f->what, f->path,
                       strerror(errno));
    if (!S_ISREG(st.st_mode))
        return err_set(e, EINVAL, "%s %s: is %s: give a regular file", f->what, f->path,
                       file_kind(st.st_mode));
    if (st.st_size <= 0)
        return err_set(e, EINVAL, "%s %s: is empty: was it written or downloaded whole?", f->what,
                       f->path);
    f->size = (uint64_t)st.st_size;
    return 0;
}

int file_open(struct file *f, const char *what, const char *path, struct err *e)
{
    *f = (struct file){ .what = what, .path = path };
    /* O_NONBLOCK: opening a pipe without a writer must fail below, not wait here. */
    f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (f->fd < 0)
        return err_set(e, errno, "%s %s: %s: %s", what, path, strerror(errno),
                       err_remedy(errno, "give the path of a file that can be read"));
    int ret = file_check(f, e);

    if (ret)
        file_close(f);
    return ret;
}

int file_read(const struct file *f, uint64_t off, void *buf, size_t len, struct err *e)
{
    uint8_t *p = buf;

    while (len) {
        ssize_t n = pread(f->fd, p, len, (off_t)off);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(e, errno, "%s %s: %s: can't be read at byte %llu", f->what, f->path,
                           strerror(errno), (unsigned long long)off);
        if (n == 0)
            return err_set(e, EIO, "%s %s: ends at byte %llu: it is truncated, or shrank meanwhile",
                           f->what, f->path, (unsigned long long)off);
        p += n;
        off += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

void file_close(struct file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
}
