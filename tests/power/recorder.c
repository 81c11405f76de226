/* Preloaded into a process: writes down what it does to files below one folder, in order.
 *
 * - Every operation that changes content, size or names, and every one that makes them durable.
 *   One lock is held around an operation and its record: the order of the log is the order in
 *   which the operations took effect, whatever the threads do.
 * - What it cannot describe (a shared writable mapping, sendfile, a file without a name ...) is
 *   written down as UNSEEN, and the reader refuses the log. SQLite's "-shm" is a mapping as well:
 *   it is left out, because SQLite makes it anew when nobody has it open.
 * - What libc does inside itself (stdio) and bare system calls pass it by: the reader compares what
 *   the log comes to with the folder itself.
 *
 * POWER_FOLDER is the folder, POWER_LOG the log; power_begin() looks at them, also at load: a
 * process that is started by a recorded one is recorded too. power_say() writes a note into the
 * log, power_die_after() ends the process in the middle of its work.
 *
 * A record: kind, 1 byte; lengths of two names, 4 bytes each; offset and length of data, 8 bytes
 * each; the two names, the data. Native byte order. Names are relative to the folder.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    CREATE = 'C', EMPTY = 'E', WRITE = 'W', TRUNCATE = 'T', ALLOCATE = 'A', SYNC = 'S',
    FOLDER = 'D', LINK = 'L', RENAME = 'R', REMOVE = 'U', SAID = '!', UNSEEN = '?',
};

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;
static int out = -1;
static char root[PATH_MAX];
static size_t root_length;
static long left; /* operations before the process dies; 0: it lives */

static void put(const void *data, size_t size) {
    for (const char *at = data; size > 0;) {
        ssize_t done = REAL(write)(out, at, size);
        if (done <= 0) abort(); /* a log with a hole would prove nothing */
        at += done;
        size -= done;
    }
}

static void record(char kind, const char *name, const char *other, uint64_t offset,
                   const void *data, uint64_t size) {
    uint32_t first = strlen(name), second = other ? strlen(other) : 0;
    uint64_t bytes = data ? size : 0;
    size_t head = 1 + 4 + 4 + 8 + 8, total = head + first + second + bytes;
    char *all = malloc(total), *at = all;
    if (!all) abort();
    *at++ = kind;
    at = mempcpy(at, &first, 4);
    at = mempcpy(at, &second, 4);
    at = mempcpy(at, &offset, 8);
    at = mempcpy(at, &bytes, 8);
    at = mempcpy(at, name, first);
    if (second) at = mempcpy(at, other, second);
    if (bytes) memcpy(at, data, bytes);
    put(all, total); /* in one write, so that two processes do not mix */
    free(all);
    if (left > 0 && kind != SAID && --left == 0) _exit(42);
}

void power_begin(void) {
    const char *folder = getenv("POWER_FOLDER"), *log = getenv("POWER_LOG");
    if (out >= 0 || !folder || !log || !realpath(folder, root)) return;
    root_length = strlen(root);
    out = REAL(open)(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (out < 0) abort();
}

__attribute__((constructor)) static void at_load(void) { power_begin(); }

void power_say(const char *text, size_t size) {
    pthread_mutex_lock(&order);
    if (out >= 0) record(SAID, "", NULL, 0, text, size);
    pthread_mutex_unlock(&order);
}

void power_die_after(long count) { left = count; }

static int ends(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

/* The name below the folder, NULL if it is not below it. The folder itself is "". */
static const char *below(const char *path) {
    if (strncmp(path, root, root_length)) return NULL;
    if (ends(path, "-shm") || ends(path, " (deleted)")) return NULL;
    if (!path[root_length]) return path + root_length;
    return path[root_length] == '/' ? path + root_length + 1 : NULL;
}

static const char *name_of(int fd, char *path) {
    if (out < 0) return NULL;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int before = errno;
    ssize_t size = readlink(link, path, PATH_MAX - 1);
    errno = before;
    if (size <= 0) return NULL;
    path[size] = 0;
    return below(path);
}

/* Where a name stands: its folder is resolved, the last part is not. */
static const char *place_of(int at, const char *name, char *path) {
    if (out < 0) return NULL;
    int before = errno;
    char full[PATH_MAX], parent[PATH_MAX];
    size_t used = 0;
    if (name[0] != '/') {
        if (at == AT_FDCWD) {
            if (!getcwd(full, sizeof full)) return NULL;
        } else {
            char link[64];
            snprintf(link, sizeof link, "/proc/self/fd/%d", at);
            ssize_t size = readlink(link, full, sizeof full - 1);
            if (size <= 0) return NULL;
            full[size] = 0;
        }
        used = strlen(full);
        full[used++] = '/';
    }
    snprintf(full + used, sizeof full - used, "%s", name);
    size_t size = strlen(full);
    while (size > 1 && full[size - 1] == '/') full[--size] = 0;
    char *last = strrchr(full, '/');
    *last = 0;
    int there = realpath(*full ? full : "/", parent) != NULL;
    errno = before;
    if (!there || strlen(parent) + strlen(last + 1) + 2 > PATH_MAX) return NULL;
    sprintf(path, "%s/%s", parent, last + 1);
    return below(path);
}

/* `done` is the operation; what follows runs if it succeeded, with errno kept. */
#define ORDERED(type, done, good, ...)          \
    pthread_mutex_lock(&order);                 \
    type result = (done);                       \
    int failure = errno;                        \
    if (good) { __VA_ARGS__; }                  \
    pthread_mutex_unlock(&order);               \
    errno = failure;                            \
    return result

static void opened(int fd, int flags) {
    char path[PATH_MAX] = "";
    const char *name = name_of(fd, path);
    if ((flags & O_TMPFILE) == O_TMPFILE && !strncmp(path, root, root_length))
        record(UNSEEN, "", "O_TMPFILE", 0, NULL, 0);
    if (!name) return;
    if (flags & O_CREAT) record(CREATE, name, NULL, 0, NULL, 0);
    if (flags & O_TRUNC) record(EMPTY, name, NULL, 0, NULL, 0);
}

#define CHANGES(flags) ((flags) & (O_CREAT | O_TRUNC))
#define MODE(flags)                                                        \
    mode_t mode = 0;                                                       \
    if ((flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE) {           \
        va_list more;                                                      \
        va_start(more, flags);                                             \
        mode = va_arg(more, int);                                          \
        va_end(more);                                                      \
    }
/* One that changes nothing may block, on a pipe: it takes no lock. */
#define OPEN(name)                                                                       \
    int name(const char *path, int flags, ...) {                                         \
        MODE(flags)                                                                      \
        if (out < 0 || !(CHANGES(flags) || (flags & O_TMPFILE) == O_TMPFILE))            \
            return REAL(name)(path, flags, mode);                                        \
        ORDERED(int, REAL(name)(path, flags, mode), result >= 0, opened(result, flags)); \
    }
#define OPENAT(name)                                                                         \
    int name(int at, const char *path, int flags, ...) {                                     \
        MODE(flags)                                                                          \
        if (out < 0 || !(CHANGES(flags) || (flags & O_TMPFILE) == O_TMPFILE))                \
            return REAL(name)(at, path, flags, mode);                                        \
        ORDERED(int, REAL(name)(at, path, flags, mode), result >= 0, opened(result, flags)); \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

static void written(int fd, const void *data, ssize_t size, off_t offset) {
    char path[PATH_MAX];
    const char *name = name_of(fd, path);
    /* Where write() ended is known only now: the file may be open for appending. */
    if (offset < 0) offset = lseek(fd, 0, SEEK_CUR) - size;
    if (name) record(WRITE, name, NULL, offset, data, size);
}

static void written_parts(int fd, const struct iovec *part, int count, ssize_t size, off_t offset) {
    char *all = malloc(size), *at = all;
    if (!all) abort();
    for (ssize_t rest = size; count > 0 && rest > 0; part++, count--) {
        ssize_t some = (ssize_t)part->iov_len < rest ? (ssize_t)part->iov_len : rest;
        at = mempcpy(at, part->iov_base, some);
        rest -= some;
    }
    written(fd, all, size, offset);
    free(all);
}

#define OUTSIDE(fd) char here[PATH_MAX]; if (!name_of(fd, here))

ssize_t write(int fd, const void *data, size_t size) {
    OUTSIDE(fd) return REAL(write)(fd, data, size);
    ORDERED(ssize_t, REAL(write)(fd, data, size), result > 0, written(fd, data, result, -1));
}

ssize_t writev(int fd, const struct iovec *part, int count) {
    OUTSIDE(fd) return REAL(writev)(fd, part, count);
    ORDERED(ssize_t, REAL(writev)(fd, part, count), result > 0,
            written_parts(fd, part, count, result, -1));
}

#define PWRITE(name)                                                             \
    ssize_t name(int fd, const void *data, size_t size, off_t offset) {          \
        OUTSIDE(fd) return REAL(name)(fd, data, size, offset);                   \
        ORDERED(ssize_t, REAL(name)(fd, data, size, offset), result > 0,         \
                written(fd, data, result, offset));                              \
    }
#define PWRITEV(name)                                                            \
    ssize_t name(int fd, const struct iovec *part, int count, off_t offset) {    \
        OUTSIDE(fd) return REAL(name)(fd, part, count, offset);                  \
        ORDERED(ssize_t, REAL(name)(fd, part, count, offset), result > 0,        \
                written_parts(fd, part, count, result, offset));                 \
    }
PWRITE(pwrite)
PWRITE(pwrite64)
PWRITEV(pwritev)
PWRITEV(pwritev64)
#define PWRITEV2(name)                                                                     \
    ssize_t name(int fd, const struct iovec *part, int count, off_t offset, int flags) {   \
        OUTSIDE(fd) return REAL(name)(fd, part, count, offset, flags);                     \
        ORDERED(ssize_t, REAL(name)(fd, part, count, offset, flags), result > 0,           \
                written_parts(fd, part, count, result, offset));                           \
    }
PWRITEV2(pwritev2)
PWRITEV2(pwritev64v2)

static void about(int fd, char kind, const char *what, uint64_t offset, uint64_t size) {
    char path[PATH_MAX];
    const char *name = name_of(fd, path);
    if (name && kind == ALLOCATE) record(ALLOCATE, name, NULL, offset + size, NULL, 0);
    else if (name) record(kind, name, what, offset, NULL, 0);
}

#define SIZED(name)                                                                          \
    int name(int fd, off_t size) {                                                           \
        OUTSIDE(fd) return REAL(name)(fd, size);                                             \
        ORDERED(int, REAL(name)(fd, size), !result, about(fd, TRUNCATE, NULL, size, 0));     \
    }
SIZED(ftruncate)
SIZED(ftruncate64)

#define ALLOCATED(name)                                                       \
    int name(int fd, off_t offset, off_t size) {                              \
        OUTSIDE(fd) return REAL(name)(fd, offset, size);                      \
        ORDERED(int, REAL(name)(fd, offset, size), !result,                   \
                about(fd, ALLOCATE, NULL, offset, size));                     \
    }
ALLOCATED(posix_fallocate)
ALLOCATED(posix_fallocate64)

#define FALLOCATED(name)                                                           \
    int name(int fd, int mode, off_t offset, off_t size) {                         \
        OUTSIDE(fd) return REAL(name)(fd, mode, offset, size);                     \
        ORDERED(int, REAL(name)(fd, mode, offset, size), !result,                  \
                about(fd, mode ? UNSEEN : ALLOCATE, "fallocate", offset, size));   \
    }
FALLOCATED(fallocate)
FALLOCATED(fallocate64)

#define SYNCED(name)                                                          \
    int name(int fd) {                                                        \
        OUTSIDE(fd) return REAL(name)(fd);                                    \
        ORDERED(int, REAL(name)(fd), !result, about(fd, SYNC, NULL, 0, 0));   \
    }
SYNCED(fsync)
SYNCED(fdatasync)
/* sync_file_range promises nothing that a power cut respects (its manual says so): not recorded. */

static void placed(char kind, const char *old, const char *new) {
    if (old || new) record(kind, old ? old : "", new, 0, NULL, 0);
}

#define NAMED(kind, at, path, done)                           \
    char place[PATH_MAX];                                     \
    const char *name = place_of(at, path, place);             \
    if (!name) return (done);                                 \
    ORDERED(int, (done), !result, placed(kind, name, NULL))
#define NAMED_TWICE(kind, at, path, to, path2, done)                                        \
    char place[PATH_MAX], place2[PATH_MAX];                                                 \
    const char *name = place_of(at, path, place), *name2 = place_of(to, path2, place2);     \
    if (!name && !name2) return (done);                                                     \
    ORDERED(int, (done), !result, placed(name && name2 ? kind : UNSEEN, name, name2))

int mkdir(const char *path, mode_t mode) { NAMED(FOLDER, AT_FDCWD, path, REAL(mkdir)(path, mode)); }
int mkdirat(int at, const char *path, mode_t mode) {
    NAMED(FOLDER, at, path, REAL(mkdirat)(at, path, mode));
}
int unlink(const char *path) { NAMED(REMOVE, AT_FDCWD, path, REAL(unlink)(path)); }
int unlinkat(int at, const char *path, int flags) {
    NAMED(REMOVE, at, path, REAL(unlinkat)(at, path, flags));
}
int rmdir(const char *path) { NAMED(REMOVE, AT_FDCWD, path, REAL(rmdir)(path)); }
int remove(const char *path) { NAMED(REMOVE, AT_FDCWD, path, REAL(remove)(path)); }
int rename(const char *path, const char *to) {
    NAMED_TWICE(RENAME, AT_FDCWD, path, AT_FDCWD, to, REAL(rename)(path, to));
}
int renameat(int at, const char *path, int at2, const char *to) {
    NAMED_TWICE(RENAME, at, path, at2, to, REAL(renameat)(at, path, at2, to));
}
int renameat2(int at, const char *path, int at2, const char *to, unsigned flags) {
    NAMED_TWICE(flags & RENAME_EXCHANGE ? UNSEEN : RENAME, at, path, at2, to,
                REAL(renameat2)(at, path, at2, to, flags));
}
int link(const char *path, const char *to) {
    NAMED_TWICE(LINK, AT_FDCWD, path, AT_FDCWD, to, REAL(link)(path, to));
}
int linkat(int at, const char *path, int at2, const char *to, int flags) {
    NAMED_TWICE(LINK, at, path, at2, to, REAL(linkat)(at, path, at2, to, flags));
}
int symlink(const char *path, const char *to) {
    NAMED(UNSEEN, AT_FDCWD, to, REAL(symlink)(path, to));
}
int symlinkat(const char *path, int at, const char *to) {
    NAMED(UNSEEN, at, to, REAL(symlinkat)(path, at, to));
}
#define TRUNCATED(name_)                                                              \
    int name_(const char *path, off_t size) {                                         \
        NAMED(UNSEEN, AT_FDCWD, path, REAL(name_)(path, size));                       \
    }
TRUNCATED(truncate)
TRUNCATED(truncate64)

#define COPIED(name, parameters, ...)                                                 \
    ssize_t name parameters {                                                         \
        OUTSIDE(to) return REAL(name)(__VA_ARGS__);                                   \
        ORDERED(ssize_t, REAL(name)(__VA_ARGS__), result > 0,                         \
                about(to, UNSEEN, #name, 0, 0));                                      \
    }
COPIED(sendfile, (int to, int from, off_t *offset, size_t size), to, from, offset, size)
COPIED(sendfile64, (int to, int from, off_t *offset, size_t size), to, from, offset, size)
COPIED(copy_file_range, (int from, off_t *at, int to, off_t *at2, size_t size, unsigned flags),
       from, at, to, at2, size, flags)

#define MAPPED(name)                                                                       \
    void *name(void *at, size_t size, int access, int flags, int fd, off_t offset) {       \
        char here[PATH_MAX];                                                               \
        int shared = fd >= 0 && (flags & MAP_SHARED) && (access & PROT_WRITE);             \
        if (!shared || !name_of(fd, here))                                                 \
            return REAL(name)(at, size, access, flags, fd, offset);                        \
        ORDERED(void *, REAL(name)(at, size, access, flags, fd, offset),                   \
                result != MAP_FAILED, about(fd, UNSEEN, "mmap", 0, 0));                    \
    }
MAPPED(mmap)
MAPPED(mmap64)
