/* Stands between a program and the system (LD_PRELOAD): writes down, in order, every change and sync of files below a
 * directory, and lets calls fail on command.
 *
 *   CLOACA_RECORD_ROOT   the directory (absolute)
 *   CLOACA_RECORD_TO     where the recording goes; nothing is recorded without it
 *   CLOACA_RECORD_MARKS  the file whose writes are marks: what the program says to the reader of the recording
 *   CLOACA_FAULT         KIND:NTH:WHAT:TIMES  the NTH call (from 1) of a kind fails
 *                        KIND   any, open, write, sync, range, truncate, rename, unlink, mkdir, read
 *                        WHAT   a number (errno); short (half of a write); lie (a sync that does nothing)
 *                        TIMES  once, or forever (that call and every one after it)
 *   CLOACA_RECORD_COUNTS where the number of calls of each kind is written at the end
 *
 * A record: kind u8, descriptor i32, offset i64, length i64, bytes u32, then so many bytes; numbers as the machine has
 * them. A change is recorded when it has happened, together with it (under one lock); a sync when it begins and when it
 * has ended, so that what is written meanwhile is not taken for synced.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN = 1, CLOSE, WRITE, TRUNCATE, RENAME, UNLINK, MKDIR, SYNC_BEGINS, SYNC_ENDS, DATASYNC_BEGINS, DATASYNC_ENDS,
       RANGE, MARK, FAULT, ROOT };

enum { K_OPEN, K_WRITE, K_SYNC, K_RANGE, K_TRUNCATE, K_RENAME, K_UNLINK, K_MKDIR, K_READ, KINDS, K_ANY };
static const char *const kind_names[KINDS] = { "open", "write", "sync", "range", "truncate", "rename", "unlink", "mkdir",
                                               "read" };

#define MOST_DESCRIPTORS 4096
enum { UNKNOWN = 0, FILE_BELOW, MARKS };
static unsigned char what_is[MOST_DESCRIPTORS];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[4096], marks[4096];
static size_t root_length;
static int out = -1;
static unsigned long counts[KINDS], total;

enum { NO_FAULT, FAIL, SHORT, LIE };
static int fault_kind = -1, fault_what, fault_errno, fault_forever;
static unsigned long fault_nth;

/* How far from its beginning a file was read or written: the system has that in memory, and a disk that fails does not
 * show in it. Only other reads can fail. */
static struct { dev_t device; ino_t inode; off64_t until; } cached[64];
static int cached_files;

static off64_t *cached_until(int fd) {
    struct stat about;
    if (fstat(fd, &about)) return NULL;
    for (int at = 0; at < cached_files; at++)
        if (cached[at].device == about.st_dev && cached[at].inode == about.st_ino) return &cached[at].until;
    if (cached_files == 64) return NULL;
    cached[cached_files].device = about.st_dev;
    cached[cached_files].inode = about.st_ino;
    cached[cached_files].until = 0;
    return &cached[cached_files++].until;
}

static void cache(int fd, off64_t offset, ssize_t length) {
    off64_t *until = cached_until(fd);
    if (until && length > 0 && offset <= *until && offset + length > *until) *until = offset + length;
}

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static void put(int kind, int fd, int64_t offset, int64_t length, const void *bytes, uint32_t count) {
    if (out < 0) return;
    unsigned char head[25];
    int32_t descriptor = fd;
    head[0] = (unsigned char)kind;
    memcpy(head + 1, &descriptor, 4);
    memcpy(head + 5, &offset, 8);
    memcpy(head + 13, &length, 8);
    memcpy(head + 21, &count, 4);
    struct iovec parts[2] = { { head, sizeof head }, { (void *)bytes, count } };
    if (REAL(writev)(out, parts, 2) != (ssize_t)(sizeof head + count)) _exit(97);
}

static void put_text(int kind, int fd, int64_t offset, const char *text) {
    put(kind, fd, offset, 0, text, (uint32_t)strlen(text));
}

static void put_two(int kind, const char *first, const char *second) {
    char both[8192];
    int length = snprintf(both, sizeof both, "%s%c%s", first, '\n', second);
    put(kind, -1, 0, 0, both, (uint32_t)length);
}

static void write_counts(void) {
    const char *path = getenv("CLOACA_RECORD_COUNTS");
    if (!path) return;
    FILE *file = fopen(path, "w");
    if (!file) return;
    for (int kind = 0; kind < KINDS; kind++) fprintf(file, "%s %lu\n", kind_names[kind], counts[kind]);
    fprintf(file, "any %lu\n", total);
    fclose(file);
}

__attribute__((constructor)) static void begin(void) {
    const char *value = getenv("CLOACA_RECORD_ROOT");
    if (!value) return;
    snprintf(root, sizeof root, "%s", value);
    if ((value = getenv("CLOACA_RECORD_MARKS"))) snprintf(marks, sizeof marks, "%s", value);
    if ((value = getenv("CLOACA_RECORD_TO"))) {
        out = REAL(open)(value, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (out < 0) _exit(98);
    }
    if ((value = getenv("CLOACA_FAULT"))) {
        char kind[16], what[16], times[16];
        if (sscanf(value, "%15[^:]:%lu:%15[^:]:%15s", kind, &fault_nth, what, times) != 4) _exit(99);
        for (int candidate = 0; candidate < KINDS; candidate++)
            if (!strcmp(kind, kind_names[candidate])) fault_kind = candidate;
        if (!strcmp(kind, "any")) fault_kind = K_ANY;
        fault_what = !strcmp(what, "short") ? SHORT : !strcmp(what, "lie") ? LIE : FAIL;
        fault_errno = atoi(what);
        fault_forever = !strcmp(times, "forever");
    }
    atexit(write_counts);
    root_length = strlen(root);
    put_text(ROOT, -1, 0, root);
}

static int is_below(const char *path) {
    return root_length && path && !strncmp(path, root, root_length) && (path[root_length] == '/' || !path[root_length]);
}

/* A path by which something below the root is called, also where it goes through the descriptor of a directory
 * (/proc/self/fd/N/name); NULL for all others. */
static const char *below(const char *path, char named[8192]) {
    static const char through[] = "/proc/self/fd/";
    if (!path || !root_length) return NULL;
    if (strncmp(path, through, sizeof through - 1)) return is_below(path) ? path : NULL;
    const char *rest = path + sizeof through - 1;
    rest += strcspn(rest, "/");
    char link[64], directory[4096];
    snprintf(link, sizeof link, "%.*s", (int)(rest - path), path);
    ssize_t length = readlink(link, directory, sizeof directory - 1);
    if (length < 0) return NULL;
    directory[length] = 0;
    snprintf(named, 8192, "%s%s", directory, rest);
    return is_below(named) ? named : NULL;
}

static int is_ours(int fd) { return fd >= 0 && fd < MOST_DESCRIPTORS ? what_is[fd] : UNKNOWN; }

/* Counts a call, and says what shall become of it. The lock is held. */
static int strikes(int kind) {
    unsigned long number = ++counts[kind];
    total++;
    if (fault_kind == K_ANY) number = total;
    else if (fault_kind != kind) return NO_FAULT;
    if (number == fault_nth || (fault_forever && number > fault_nth)) {
        if (fault_what == SHORT && kind != K_WRITE) return NO_FAULT;
        if (fault_what == LIE && kind != K_SYNC && kind != K_RANGE) return NO_FAULT;
        put_text(FAULT, -1, (int64_t)number, kind_names[kind]);
        return fault_what;
    }
    return NO_FAULT;
}

static int opened(const char *path, int flags, mode_t mode) {
    if (marks[0] && !strcmp(path, marks)) {
        int fd = REAL(open)(path, flags, mode);
        if (fd >= 0 && fd < MOST_DESCRIPTORS) what_is[fd] = MARKS;
        return fd;
    }
    char buffer[8192];
    const char *named = below(path, buffer);
    if (!named) {
        int fd = REAL(open)(path, flags, mode);
        if (fd >= 0 && fd < MOST_DESCRIPTORS) what_is[fd] = UNKNOWN;
        return fd;
    }
    pthread_mutex_lock(&lock);
    int fd = -1;
    if (strikes(K_OPEN) == FAIL) errno = fault_errno;
    else fd = REAL(open)(path, flags, mode);
    int error = errno;
    if (fd >= 0) {
        if (fd >= MOST_DESCRIPTORS) _exit(96);
        what_is[fd] = FILE_BELOW;
        put_text(OPEN, fd, flags, named);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

#define WITH_MODE \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

int open(const char *path, int flags, ...) { WITH_MODE return opened(path, flags, mode); }
int open64(const char *path, int flags, ...) { WITH_MODE return opened(path, flags | O_LARGEFILE, mode); }
int openat(int directory, const char *path, int flags, ...) {
    WITH_MODE
    return path[0] == '/' ? opened(path, flags, mode) : REAL(openat)(directory, path, flags, mode);
}
int openat64(int directory, const char *path, int flags, ...) {
    WITH_MODE
    return path[0] == '/' ? opened(path, flags, mode) : REAL(openat)(directory, path, flags, mode);
}

int close(int fd) {
    if (!is_ours(fd)) return REAL(close)(fd);
    pthread_mutex_lock(&lock);
    put(CLOSE, fd, 0, 0, "", 0);
    what_is[fd] = UNKNOWN;
    int result = REAL(close)(fd);
    pthread_mutex_unlock(&lock);
    return result;
}

static ssize_t written(int fd, const void *bytes, size_t length, off64_t offset, int moves) {
    pthread_mutex_lock(&lock);
    if (moves) offset = lseek64(fd, 0, SEEK_CUR);
    int fault = strikes(K_WRITE);
    ssize_t result = -1;
    if (fault == FAIL) errno = fault_errno;
    else {
        if (fault == SHORT && length > 1) length /= 2;
        result = moves ? REAL(write)(fd, bytes, length) : REAL(pwrite64)(fd, bytes, length, offset);
    }
    int error = errno;
    if (result > 0) put(WRITE, fd, offset, result, bytes, (uint32_t)result);
    cache(fd, offset, result);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

ssize_t write(int fd, const void *bytes, size_t length) {
    switch (is_ours(fd)) {
    case FILE_BELOW:
        return written(fd, bytes, length, 0, 1);
    case MARKS:
        pthread_mutex_lock(&lock);
        put(MARK, fd, 0, 0, bytes, (uint32_t)length);
        ssize_t result = REAL(write)(fd, bytes, length);
        pthread_mutex_unlock(&lock);
        return result;
    default:
        return REAL(write)(fd, bytes, length);
    }
}
ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    return is_ours(fd) ? written(fd, bytes, length, offset, 0) : REAL(pwrite64)(fd, bytes, length, offset);
}
ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) { return pwrite64(fd, bytes, length, offset); }

/* What is not understood must not pass unseen. */
static int refuse(const char *name) {
    fprintf(stderr, "record.c: %s of a recorded file is not understood\n", name);
    _exit(95);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (is_ours(fd)) refuse("writev");
    return REAL(writev)(fd, parts, count);
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
    if (is_ours(fd)) refuse("pwritev");
    return REAL(pwritev64)(fd, parts, count, offset);
}
int fallocate64(int fd, int mode, off64_t offset, off64_t length) {
    if (is_ours(fd)) refuse("fallocate");
    return REAL(fallocate64)(fd, mode, offset, length);
}
ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t length, unsigned flags) {
    if (is_ours(to)) refuse("copy_file_range");
    return REAL(copy_file_range)(from, from_at, to, to_at, length, flags);
}

static ssize_t read_at(int fd, void *bytes, size_t length, off64_t offset, int moves) {
    pthread_mutex_lock(&lock);
    if (moves) offset = lseek64(fd, 0, SEEK_CUR);
    off64_t *until = cached_until(fd);
    struct stat about;
    int in_memory = until && !fstat(fd, &about) && (offset + (off64_t)length <= *until || about.st_size <= *until);
    ssize_t result = -1;
    if (!in_memory && strikes(K_READ) == FAIL) errno = fault_errno;
    else result = moves ? REAL(read)(fd, bytes, length) : REAL(pread64)(fd, bytes, length, offset);
    int error = errno;
    cache(fd, offset, result);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}
ssize_t read(int fd, void *bytes, size_t length) {
    return is_ours(fd) == FILE_BELOW ? read_at(fd, bytes, length, 0, 1) : REAL(read)(fd, bytes, length);
}
ssize_t pread64(int fd, void *bytes, size_t length, off64_t offset) {
    return is_ours(fd) == FILE_BELOW ? read_at(fd, bytes, length, offset, 0) : REAL(pread64)(fd, bytes, length, offset);
}
ssize_t pread(int fd, void *bytes, size_t length, off_t offset) { return pread64(fd, bytes, length, offset); }

int ftruncate64(int fd, off64_t length) {
    if (!is_ours(fd)) return REAL(ftruncate64)(fd, length);
    pthread_mutex_lock(&lock);
    int result = -1;
    if (strikes(K_TRUNCATE) == FAIL) errno = fault_errno;
    else result = REAL(ftruncate64)(fd, length);
    int error = errno;
    if (!result) put(TRUNCATE, fd, 0, length, "", 0);
    off64_t *until = cached_until(fd);
    if (!result && until && *until > length) *until = length;
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}
int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

int rename(const char *from, const char *to) {
    char from_buffer[8192], to_buffer[8192];
    const char *from_named = below(from, from_buffer), *to_named = below(to, to_buffer);
    if (!from_named && !to_named) return REAL(rename)(from, to);
    pthread_mutex_lock(&lock);
    int result = -1;
    if (strikes(K_RENAME) == FAIL) errno = fault_errno;
    else result = REAL(rename)(from, to);
    int error = errno;
    if (!result) put_two(RENAME, from_named ? from_named : from, to_named ? to_named : to);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int unlink(const char *path) {
    char buffer[8192];
    const char *named = below(path, buffer);
    if (!named) return REAL(unlink)(path);
    pthread_mutex_lock(&lock);
    int result = -1;
    if (strikes(K_UNLINK) == FAIL) errno = fault_errno;
    else result = REAL(unlink)(path);
    int error = errno;
    if (!result) put_text(UNLINK, -1, 0, named);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int mkdir(const char *path, mode_t mode) {
    char buffer[8192];
    const char *named = below(path, buffer);
    if (!named) return REAL(mkdir)(path, mode);
    pthread_mutex_lock(&lock);
    int result = -1;
    if (strikes(K_MKDIR) == FAIL) errno = fault_errno;
    else result = REAL(mkdir)(path, mode);
    int error = errno;
    if (!result) put_text(MKDIR, -1, 0, named);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

static int synced(int fd, int begins, int (*sync)(int)) {
    pthread_mutex_lock(&lock);
    int fault = strikes(K_SYNC);
    if (fault == NO_FAULT) put(begins, fd, 0, 0, "", 0);
    pthread_mutex_unlock(&lock);
    if (fault == LIE) return 0;
    if (fault == FAIL) {
        errno = fault_errno;
        return -1;
    }
    int result = sync(fd), error = errno;
    pthread_mutex_lock(&lock);
    if (!result) put(begins + 1, fd, 0, 0, "", 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}
int fsync(int fd) { return is_ours(fd) ? synced(fd, SYNC_BEGINS, REAL(fsync)) : REAL(fsync)(fd); }
int fdatasync(int fd) { return is_ours(fd) ? synced(fd, DATASYNC_BEGINS, REAL(fdatasync)) : REAL(fdatasync)(fd); }

int sync_file_range(int fd, off64_t offset, off64_t length, unsigned flags) {
    if (!is_ours(fd)) return REAL(sync_file_range)(fd, offset, length, flags);
    pthread_mutex_lock(&lock);
    int fault = strikes(K_RANGE);
    put(RANGE, fd, offset, length, "", 0);
    pthread_mutex_unlock(&lock);
    if (fault == LIE) return 0;
    if (fault == FAIL) {
        errno = fault_errno;
        return -1;
    }
    return REAL(sync_file_range)(fd, offset, length, flags);
}
