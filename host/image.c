/* See image.h.
 *
 * What the name stands for is looked at before it is opened, since opening alone can do things (a
 * watchdog starts, a tape winds), and again behind it, since a name can come to mean something
 * else. A writable block device is opened with O_EXCL: the kernel then refuses one that is mounted,
 * swapped on or part of another device. Against other monitors there is the lock, one for the whole
 * file, which also meets the byte locks that QEMU takes. It belongs to the open file description:
 * two disks of one process that name the same image meet as well.
 *
 * What O_DIRECT demands of offsets and lengths is asked of the kernel (statx, since 6.1), or else
 * found by reading with ever larger blocks.
 */
#include "host/image.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "core/num.h"

#define BLOCK_MAX (64 * KIB)

static const char *image_kind(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFDIR:
        return "a directory";
    case S_IFIFO:
        return "a pipe";
    case S_IFCHR:
        return "a character device";
    default:
        return "a socket";
    }
}

static int image_check_kind(const char *path, mode_t mode, struct err *e)
{
    if (S_ISREG(mode) || S_ISBLK(mode))
        return 0;
    return err_set(e, EINVAL, "disk %s: is %s: give a raw image or a block device", path,
                   image_kind(mode));
}

static int image_open_failed(const struct image *im, int code, struct err *e)
{
    const char *reason = strerror(code), *remedy = "give the path of a raw image or a block device";

    if (code == EINVAL && im->direct) {
        reason = "its file system has no direct I/O";
        remedy = "leave out direct";
    } else if (code == EBUSY && im->device) {
        reason = "in use on this host (mounted, swap, or part of another device) or by another VM";
        remedy = "unmount it or stop that VM";
    } else if (code == EACCES || code == EPERM || code == EROFS) {
        remedy = im->read_only ? "make it readable for this user"
                               : "make it writable for this user, or add ro or overlay";
    }
    return err_set(e, code, "disk %s: %s: %s", im->path, reason, err_remedy(code, remedy));
}

/* The descriptor, of a file or a block device for certain. */
static int image_open_fd(struct image *im, struct err *e)
{
    struct stat st, now;

    if (stat(im->path, &st) < 0)
        return image_open_failed(im, errno, e);
    int ret = image_check_kind(im->path, st.st_mode, e);

    if (ret)
        return ret;
    im->device = S_ISBLK(st.st_mode);
    /* O_NONBLOCK: should it have become a pipe by now, this must not wait for a writer. */
    int flags = O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (im->read_only ? O_RDONLY : O_RDWR) |
                (im->direct ? O_DIRECT : 0) | (im->device && !im->read_only ? O_EXCL : 0);

    im->fd = open(im->path, flags);
    if (im->fd < 0 || fstat(im->fd, &now) < 0)
        return image_open_failed(im, errno, e);
    if ((st.st_mode & S_IFMT) != (now.st_mode & S_IFMT))
        return err_set(e, EAGAIN, "disk %s: was replaced while it was opened: try again", im->path);
    flags = fcntl(im->fd, F_GETFL);
    if (flags < 0 || fcntl(im->fd, F_SETFL, flags & ~O_NONBLOCK) < 0)
        return image_open_failed(im, errno, e);
    return 0;
}

static int image_set_lock(const struct image *im, short type)
{
    struct flock whole = { .l_type = type, .l_whence = SEEK_SET };

    return fcntl(im->fd, F_OFD_SETLK, &whole) < 0 ? -errno : 0;
}

static int image_lock(const struct image *im, struct err *e)
{
    int code = -image_set_lock(im, im->read_only ? F_RDLCK : F_WRLCK);

    if (code == 0)
        return 0;
    if (code != EAGAIN && code != EACCES)
        return err_set(e, code,
                       "disk %s: can't be locked against other VMs: %s: keep it on a file system "
                       "with locks",
                       im->path, strerror(code));
    if (im->read_only)
        return err_set(e, EBUSY,
                       "disk %s: in use by another disk, VM or program that writes to it: stop "
                       "that one, or give it ro or overlay",
                       im->path);
    return err_set(e, EBUSY,
                   "disk %s: in use by another disk, VM or program: stop that one, or give both "
                   "ro or overlay",
                   im->path);
}

/* The struct statx of Linux 6.1, as 32-bit words: musl 1.2.3 has none, others collide with that of
 * the kernel's header. */
struct statx_words {
    uint32_t mask;
    uint32_t before[37];
    uint32_t dio_mem_align, dio_offset_align;
    uint32_t behind[24];
};

#ifndef STATX_DIOALIGN
#define STATX_DIOALIGN 0x2000U
#endif

_Static_assert(sizeof(struct statx_words) == 256, "as long as the kernel's");
_Static_assert(offsetof(struct statx_words, dio_offset_align) == 0x9c, "where the kernel has it");

/* The smallest first block of the image that can be read, at most BLOCK_MAX; 0 when none can. */
static uint32_t image_probe(const struct image *im)
{
    uint32_t block = 0;
    void *buf;

    if (posix_memalign(&buf, BLOCK_MAX, BLOCK_MAX) != 0)
        return 0;
    for (uint32_t try = IMAGE_SECTOR; !block && try <= BLOCK_MAX; try *= 2)
        if (pread(im->fd, buf, try, 0) >= 0 || errno != EINVAL)
            block = try; /* another error than EINVAL is not about the size */
    free(buf);
    return block;
}

/* What O_DIRECT demands of offset and length; 0: it is not to be had. */
static uint32_t image_direct_align(const struct image *im)
{
    struct statx_words st = { 0 };

    if (syscall(SYS_statx, im->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &st) == 0 &&
        st.mask & STATX_DIOALIGN)
        return st.dio_offset_align;
    return image_probe(im);
}

/* Size and blocks as the host has them. */
static int image_measure(struct image *im, struct err *e)
{
    struct stat st;
    int logical = IMAGE_SECTOR;
    unsigned physical = 0;

    if (fstat(im->fd, &st) < 0)
        return err_set(e, errno, "disk %s: can't tell its size: %s: report this", im->path,
                       strerror(errno));
    im->size = (uint64_t)st.st_size;
    if (im->device) {
        if (ioctl(im->fd, BLKGETSIZE64, &im->size) < 0 || ioctl(im->fd, BLKSSZGET, &logical) < 0)
            return err_set(e, errno, "disk %s: can't tell its size: %s: copy it to a file",
                           im->path, strerror(errno));
        if (ioctl(im->fd, BLKPBSZGET, &physical) < 0)
            physical = 0;
    } else if (st.st_blksize > 0) {
        physical = (unsigned)min_u64((uint64_t)st.st_blksize, UINT32_MAX);
    }
    if (im->size == 0)
        return err_set(e, EINVAL, "disk %s: is empty: %s", im->path,
                       im->device ? "is there a medium in it?" : "give it a size with truncate -s");
    im->block = (uint32_t)logical;
    im->physical = physical;
    return 0;
}

/* The guest's geometry: block and physical, made fit for it, and a size in whole blocks. */
static int image_fit(struct image *im, struct err *e)
{
    if (im->direct) {
        uint32_t align = image_direct_align(im);

        if (align == 0)
            return err_set(e, EINVAL, "disk %s: no direct I/O on this file: leave out direct",
                           im->path);
        if (align > im->block)
            im->block = align;
    }
    if (!is_pow2(im->block) || im->block < IMAGE_SECTOR || im->block > 4096)
        return err_set(e, EINVAL, "disk %s: blocks of %" PRIu32 " bytes, which no guest takes: %s",
                       im->path, im->block, im->direct ? "leave out direct" : "copy it to a file");
    if (im->physical > BLOCK_MAX)
        im->physical = BLOCK_MAX;
    if (!is_pow2(im->physical) || im->physical < im->block)
        im->physical = im->block;
    if (im->size % im->block == 0)
        return 0;
    uint64_t padded = (im->size / im->block + 1) * im->block;

    return err_set(e, EINVAL,
                   "disk %s: size %" PRIu64 " is not a multiple of %" PRIu32 "%s: pad it with "
                   "truncate -s %" PRIu64 " %s%s",
                   im->path, im->size, im->block,
                   im->block > IMAGE_SECTOR ? ", the block of direct I/O there" : "", padded,
                   im->path, im->block > IMAGE_SECTOR ? ", or leave out direct" : "");
}

/* A monitor that was killed holds on to its image for a moment: the ring that its disk had is taken
 * down by a worker of the kernel's, 30 to 90 ms behind the end of the process, and the last
 * reference to the file goes with it. */
#define BUSY_TRIES    50
#define BUSY_PAUSE_MS 10

static int image_claim(struct image *im, struct err *e)
{
    const struct timespec pause = { .tv_nsec = BUSY_PAUSE_MS * 1000000L };

    for (int tries = 1;; tries++) {
        int ret = image_open_fd(im, e);

        if (ret == 0)
            ret = image_lock(im, e);
        if (ret != -EBUSY || tries == BUSY_TRIES)
            return ret;
        image_close(im);
        nanosleep(&pause, NULL);
    }
}

int image_open(struct image *im, const char *path, bool read_only, bool direct, struct err *e)
{
    *im = (struct image){ .fd = -1, .path = path, .read_only = read_only, .direct = direct };
    int ret = image_claim(im, e);

    /* The size counts that the lock holds still. */
    if (ret == 0)
        ret = image_measure(im, e);
    if (ret == 0)
        ret = image_fit(im, e);
    if (ret)
        image_close(im);
    return ret;
}

void image_close(struct image *im)
{
    if (im->fd >= 0) {
        image_set_lock(im, F_UNLCK); /* a ring may hold on to the file longer than we do */
        close(im->fd);
    }
    im->fd = -1;
}

/* A file without a name in dir, or -errno. */
static int image_unnamed(const char *dir)
{
    int fd = open(dir, O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);

    if (fd >= 0)
        return fd;
    /* Some file systems have no such files: EOPNOTSUPP, and EISDIR of old. */
    if (errno != EOPNOTSUPP && errno != EISDIR)
        return -errno;
    char path[4096];
    int n = snprintf(path, sizeof path, "%s/mayfly-XXXXXX", dir);

    if (n < 0 || (size_t)n >= sizeof path)
        return -ENAMETOOLONG;
    fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        return -errno;
    unlink(path);
    return fd;
}

int image_private(const char *dir, uint64_t size, struct err *e)
{
    if (!dir)
        dir = getenv("TMPDIR");
    if (!dir || !*dir)
        dir = "/tmp";
    int fd = image_unnamed(dir), code = fd < 0 ? -fd : 0;

    if (code)
        return err_set(e, code, "overlay in %s: no private file there: %s: %s", dir, strerror(code),
                       err_remedy(code == ENOSPC || code == EDQUOT ? 0 : code,
                                  "name another directory with overlay=DIR"));
    if (size > INT64_MAX || ftruncate(fd, (off_t)size) < 0) {
        code = size > INT64_MAX ? EFBIG : errno;
        close(fd);
        return err_set(e, code,
                       "overlay in %s: %" PRIu64 " bytes: %s: name a directory on another file "
                       "system with overlay=DIR%s",
                       dir, size, strerror(code),
                       code == EFBIG ? ", or raise the limit (ulimit -f)" : "");
    }
    return fd;
}
