/* Runs a program and traces its system calls (with seccomp and ptrace, so even those that bypass the C library). Records, in
 * order, every change and sync of files below a directory, and injects faults.
 *
 *   record PROGRAM ARGUMENTS ...
 *
 *   CLOACA_RECORD_ROOT   the directory
 *   CLOACA_RECORD_TO     the file of the recording; nothing is recorded without it
 *   CLOACA_RECORD_MARKS  a file whose writes are recorded as marks: messages of the program to the reader of the recording
 *   CLOACA_FAULT         KIND:NTH:WHAT:TIMES  the NTH call (from 1) of a kind fails
 *                        KIND   any, or one of `kind_names`
 *                        WHAT   a number (errno); short (half of a write); lie (a sync that does nothing)
 *                        TIMES  once, or forever (that call and every one after it)
 *   CLOACA_RECORD_COUNTS the file for the number of calls of each kind, written at the end
 *
 * The exit code is that of the program. 94: tracing is not permitted here. 95: the program made an unsupported call.
 *
 * A record: kind u8, file i32, offset i64, length i64, size u32, then `size` bytes; numbers in native byte order. Each
 * OPEN gives a file a new number, for all of its descriptors; -1 means none. A change is recorded after it has
 * happened, and no other change happens in between; a sync when it begins and when it ends, so that concurrent writes do
 * not count as synced; a mark before it is written.
 */
#define _GNU_SOURCE
#include "tracee.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/ptrace.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OPEN = 1, WRITE = 3, TRUNCATE, RENAME, UNLINK, MKDIR, SYNC_BEGINS, SYNC_ENDS, DATASYNC_BEGINS, DATASYNC_ENDS, RANGE,
       MARK, FAULT, ROOT, EXCHANGE, LINK, ALLOCATE, SYMLINK };

enum { K_OPEN, K_WRITE, K_SYNC, K_RANGE, K_TRUNCATE, K_RENAME, K_UNLINK, K_MKDIR, K_READ, K_LINK, K_ALLOCATE, KINDS, K_ANY };
static const char *const kind_names[KINDS] = { "open", "write", "sync", "range", "truncate", "rename", "unlink", "mkdir",
                                               "read", "link", "allocate" };

static char root[PATH_ROOM], marks[PATH_ROOM];
static FILE *out;
static unsigned long counts[KINDS], total;

enum { NO_FAULT, FAIL, SHORT, LIE };
static int fault_kind = -1, fault_what, fault_errno, fault_forever;
static unsigned long fault_nth;

/* The files that were opened below the directory, and the file of the marks. A file is identified by its inode, so any
 * descriptor can be used. `cached_until`: how far it was read or written from its beginning; that part is in the page
 * cache, where a failing disk has no effect. Only reads beyond it can fail. */
#define MARKS_FILE (-2)
struct file { dev_t device; ino_t inode; int number; int64_t cached_until; };
static struct file *files;
static size_t file_count, file_room;
static int last_number;

static struct file *find_file(const struct stat *status) {
    for (size_t at = file_count; at-- > 0;)
        if (files[at].inode == status->st_ino && files[at].device == status->st_dev) return &files[at];
    return NULL;
}

static struct file *file_of(const struct call *call, int descriptor) {
    struct stat status;
    return status_of(call->thread, descriptor, &status) ? find_file(&status) : NULL;
}

static void register_file(const struct stat *status, int number) {
    struct file *file = find_file(status);
    if (!file) {
        if (file_count == file_room) {
            file_room = file_room ? 2 * file_room : 64;
            if (!(files = realloc(files, file_room * sizeof *files))) die(96, "no memory");
        }
        file = &files[file_count++];
        *file = (struct file){ status->st_dev, status->st_ino, number, 0 };
    }
    file->number = number;
    if (file->cached_until > status->st_size) file->cached_until = status->st_size;
}

static void cache(struct file *file, int64_t offset, int64_t length) {
    if (length > 0 && offset <= file->cached_until && offset + length > file->cached_until)
        file->cached_until = offset + length;
}

static void put(int kind, int file, int64_t offset, int64_t length, const void *bytes, size_t count) {
    if (!out) return;
    unsigned char head[25];
    int32_t number = file;
    uint32_t short_count = (uint32_t)count;
    head[0] = (unsigned char)kind;
    memcpy(head + 1, &number, 4);
    memcpy(head + 5, &offset, 8);
    memcpy(head + 13, &length, 8);
    memcpy(head + 21, &short_count, 4);
    if (short_count != count || fwrite(head, sizeof head, 1, out) != 1 || fwrite(bytes, 1, count, out) != count)
        die(97, "cannot write the recording");
}

static void put_text(int kind, int file, int64_t offset, const char *text) { put(kind, file, offset, 0, text, strlen(text)); }

static void put_two(int kind, int file, const char *first, const char *second) {
    char both[2 * PATH_ROOM];
    snprintf(both, sizeof both, "%s\n%s", first, second);
    put_text(kind, file, 0, both);
}

static int is_below(const char *path) {
    size_t length = strlen(root);
    return length && !strncmp(path, root, length) && (path[length] == '/' || !path[length]);
}

/* An unsupported call must not go unnoticed. */
_Noreturn static void refuse(const char *what) { die(95, "unsupported: %s", what); }

/* Counts a call; returns the fault to inject into it. */
static int fault_for(int kind) {
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

/* Makes a call fail if it is its turn; returns whether it did. */
static int fails(const struct call *call, int kind) {
    if (fault_for(kind) != FAIL) return 0;
    skip(call, -fault_errno);
    return 1;
}

/* Runs a call unless it must fail; returns whether it succeeded. */
static int succeeds(const struct call *call, int kind) { return !fails(call, kind) && run(call) >= 0; }

/* How a thread continues after its call was handled. */
typedef enum { CONTINUE = PTRACE_CONT, STOP_AT_EXIT = PTRACE_SYSCALL } action;

#define ARGUMENT(at) (call->arguments[at])
#define DESCRIPTOR(at) ((int)call->arguments[at])

static action opened_by(const struct call *call, int directory, uint64_t name, int flags) {
    char path[PATH_ROOM];
    struct stat status;
    int found = resolve(call->thread, directory, name, path);
    if (found && is_below(path) && fails(call, K_OPEN)) return CONTINUE;
    int64_t descriptor = run(call);
    if (descriptor < 0 || !status_of(call->thread, (int)descriptor, &status)) return CONTINUE;
    int is_named = path_of(call->thread, (int)descriptor, path);
    if (is_named && marks[0] && !strcmp(path, marks)) {
        register_file(&status, MARKS_FILE);
    } else if (is_named && is_below(path) && (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode))) {
        if ((flags & O_ACCMODE) != O_RDONLY && flags & O_DSYNC) refuse("O_SYNC or O_DSYNC");
        register_file(&status, ++last_number);
        put_text(OPEN, last_number, flags, path);
    } else if (find_file(&status)) {
        /* The inode belonged to a deleted file. */
        find_file(&status)->number = -1;
        find_file(&status)->inode = 0;
    }
    return CONTINUE;
}

static action on_openat(const struct call *call) { return opened_by(call, DESCRIPTOR(0), ARGUMENT(1), (int)ARGUMENT(2)); }
static action on_openat2(const struct call *call) {
    struct { uint64_t flags, mode, resolve; } how;
    read_memory(call->thread, ARGUMENT(2), &how, sizeof how);
    return opened_by(call, DESCRIPTOR(0), ARGUMENT(1), (int)how.flags);
}

/* Copies `length` bytes from the parts in a thread's memory. */
static unsigned char *gather(const struct call *call, const struct iovec *parts, size_t length) {
    unsigned char *bytes = malloc(length + 1);
    if (!bytes) die(96, "no memory");
    for (size_t done = 0; done < length; parts++) {
        size_t part = parts->iov_len < length - done ? parts->iov_len : length - done;
        read_memory(call->thread, (uintptr_t)parts->iov_base, bytes + done, part);
        done += part;
    }
    return bytes;
}

/* The offset of a finished write of `length` bytes. `at` is the offset given in the call, -1 for the descriptor's own. */
static int64_t place_of(const struct call *call, int descriptor, int64_t at, int64_t length) {
    struct position position = position_of(call->thread, descriptor);
    struct stat status;
    if (at < 0) return position.at - length;
    /* Linux appends then, whatever the offset. */
    if (position.flags & O_APPEND && status_of(call->thread, descriptor, &status)) return status.st_size - length;
    return at;
}

/* A write of `count` parts to an offset, or to the descriptor's own (-1). A short write has half of the bytes or, if there
 * are several parts, half of the parts. */
static action written(const struct call *call, const struct iovec *parts, size_t count, int64_t at) {
    struct file *file = file_of(call, DESCRIPTOR(0));
    size_t length = 0;
    for (size_t part = 0; part < count; part++) length += parts[part].iov_len;
    if (!file) return CONTINUE;
    if (file->number == MARKS_FILE) {
        unsigned char *bytes = gather(call, parts, length);
        put(MARK, -1, 0, 0, bytes, length);
        free(bytes);
        return CONTINUE;
    }
    int fault = fault_for(K_WRITE);
    if (fault == FAIL) {
        skip(call, -fault_errno);
        return CONTINUE;
    }
    int is_short = fault == SHORT && ARGUMENT(2) > 1;
    if (is_short) set_argument(call, 2, ARGUMENT(2) / 2);
    int64_t result = run(call);
    /* The program may rely on the call preserving its registers. */
    if (is_short) set_argument(call, 2, ARGUMENT(2));
    if (result > 0) {
        int64_t offset = place_of(call, DESCRIPTOR(0), at, result);
        unsigned char *bytes = gather(call, parts, (size_t)result);
        put(WRITE, file->number, offset, result, bytes, (size_t)result);
        free(bytes);
        cache(file, offset, result);
    }
    return CONTINUE;
}

static action written_at_once(const struct call *call, int64_t at) {
    struct iovec part = { (void *)(uintptr_t)ARGUMENT(1), ARGUMENT(2) };
    return written(call, &part, 1, at);
}

static action written_in_parts(const struct call *call, int64_t at, uint64_t flags) {
    struct iovec parts[IOV_MAX];
    if (!file_of(call, DESCRIPTOR(0)) || ARGUMENT(2) > IOV_MAX) return CONTINUE;
    if (flags & (RWF_SYNC | RWF_DSYNC | RWF_APPEND)) refuse("pwritev2 with flags");
    read_memory(call->thread, ARGUMENT(1), parts, ARGUMENT(2) * sizeof *parts);
    return written(call, parts, ARGUMENT(2), at);
}

static action on_write(const struct call *call) { return written_at_once(call, -1); }
static action on_pwrite(const struct call *call) { return written_at_once(call, (int64_t)ARGUMENT(3)); }
static action on_writev(const struct call *call) { return written_in_parts(call, -1, 0); }
static action on_pwritev(const struct call *call) { return written_in_parts(call, (int64_t)ARGUMENT(3), 0); }
static action on_pwritev2(const struct call *call) {
    return written_in_parts(call, (int64_t)ARGUMENT(3), ARGUMENT(5));
}

/* Data that the kernel copied into a file is read back from the file. */
static void put_copied(const struct call *call, int descriptor, struct file *file, int64_t offset, int64_t length) {
    char path[PATH_ROOM], name[32];
    snprintf(name, sizeof name, "/proc/self/fd/%d", descriptor);
    reach(call->thread, AT_FDCWD, name, path);
    int from = open(path, O_RDONLY | O_CLOEXEC);
    unsigned char *bytes = malloc((size_t)length);
    if (from < 0 || !bytes || pread(from, bytes, (size_t)length, offset) != length)
        die(96, "cannot read what was copied: %s", strerror(errno));
    close(from);
    put(WRITE, file->number, offset, length, bytes, (size_t)length);
    free(bytes);
    cache(file, offset, length);
}

static action copied(const struct call *call, int to, uint64_t place) {
    struct file *file = file_of(call, to);
    int64_t at = -1;
    if (!file) return CONTINUE;
    if (file->number == MARKS_FILE) refuse("a mark by a copy");
    if (place) read_memory(call->thread, place, &at, sizeof at);
    if (fails(call, K_WRITE)) return CONTINUE;
    int64_t result = run(call);
    if (result > 0) put_copied(call, to, file, place_of(call, to, at, result), result);
    return CONTINUE;
}

static action on_copy_file_range(const struct call *call) { return copied(call, DESCRIPTOR(2), ARGUMENT(3)); }
static action on_sendfile(const struct call *call) { return copied(call, DESCRIPTOR(0), 0); }

static action on_read(const struct call *call, int64_t at) {
    struct file *file = file_of(call, DESCRIPTOR(0));
    struct stat status;
    if (!file || file->number == MARKS_FILE || !status_of(call->thread, DESCRIPTOR(0), &status)) return CONTINUE;
    if (!S_ISREG(status.st_mode)) return CONTINUE;
    if (at < 0) at = position_of(call->thread, DESCRIPTOR(0)).at;
    int in_memory = at + (int64_t)ARGUMENT(2) <= file->cached_until || status.st_size <= file->cached_until;
    if (!in_memory && fails(call, K_READ)) return CONTINUE;
    cache(file, at, run(call));
    return CONTINUE;
}

static action on_read_on(const struct call *call) { return on_read(call, -1); }
static action on_pread(const struct call *call) { return on_read(call, (int64_t)ARGUMENT(3)); }

static action on_ftruncate(const struct call *call) {
    struct file *file = file_of(call, DESCRIPTOR(0));
    if (!file || !succeeds(call, K_TRUNCATE)) return CONTINUE;
    put(TRUNCATE, file->number, 0, (int64_t)ARGUMENT(1), "", 0);
    if (file->cached_until > (int64_t)ARGUMENT(1)) file->cached_until = (int64_t)ARGUMENT(1);
    return CONTINUE;
}

static action on_truncate(const struct call *call) {
    char path[PATH_ROOM], target[PATH_MAX];
    if (!resolve(call->thread, AT_FDCWD, ARGUMENT(0), path) || !realpath(path, target) || !is_below(target)) return CONTINUE;
    if (succeeds(call, K_TRUNCATE)) put(TRUNCATE, -1, 0, (int64_t)ARGUMENT(1), target, strlen(target));
    return CONTINUE;
}

static action on_fallocate(const struct call *call) {
    struct file *file = file_of(call, DESCRIPTOR(0));
    int32_t mode = (int32_t)ARGUMENT(1);
    if (!file) return CONTINUE;
    if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) refuse("this kind of fallocate");
    if (succeeds(call, K_ALLOCATE))
        put(ALLOCATE, file->number, (int64_t)ARGUMENT(2), (int64_t)ARGUMENT(3), &mode, sizeof mode);
    return CONTINUE;
}

static action renamed(const struct call *call, int from_at, uint64_t from, int to_at, uint64_t to, uint64_t flags) {
    char old[PATH_ROOM], new[PATH_ROOM];
    if (!resolve(call->thread, from_at, from, old) || !resolve(call->thread, to_at, to, new)) return CONTINUE;
    if (!is_below(old) && !is_below(new)) return CONTINUE;
    if (fails(call, K_RENAME) || run(call) < 0) return CONTINUE;
    if (!is_below(old) || !is_below(new)) refuse("a rename into or out of the disk");
    if (flags & ~(uint64_t)(RENAME_EXCHANGE | RENAME_NOREPLACE)) refuse("this kind of renameat2");
    put_two(flags & RENAME_EXCHANGE ? EXCHANGE : RENAME, -1, old, new);
    return CONTINUE;
}

static action on_renameat(const struct call *call) {
    return renamed(call, DESCRIPTOR(0), ARGUMENT(1), DESCRIPTOR(2), ARGUMENT(3), 0);
}
static action on_renameat2(const struct call *call) {
    return renamed(call, DESCRIPTOR(0), ARGUMENT(1), DESCRIPTOR(2), ARGUMENT(3), ARGUMENT(4));
}

static action linked(const struct call *call, int from_at, uint64_t from, int to_at, uint64_t to, int flags) {
    char text[PATH_ROOM], reached[PATH_ROOM], old[PATH_ROOM] = "", new[PATH_ROOM];
    struct stat status;
    if (!resolve(call->thread, to_at, to, new) || !is_below(new)) return CONTINUE;
    read_text(call->thread, from, text);
    int is_empty = flags & AT_EMPTY_PATH && !text[0];
    reach(call->thread, from_at, text, reached);
    /* A file without a name is linked through its descriptor. */
    int found = is_empty ? status_of(call->thread, from_at, &status)
                         : !fstatat(AT_FDCWD, reached, &status, flags & AT_SYMLINK_FOLLOW ? 0 : AT_SYMLINK_NOFOLLOW);
    struct file *file = found ? find_file(&status) : NULL;
    if (!is_empty) resolve(call->thread, from_at, from, old);
    if (!succeeds(call, K_LINK)) return CONTINUE;
    int number = file && file->number > 0 ? file->number : -1;
    if (number < 0 && !is_below(old)) refuse("a link from elsewhere");
    put_two(LINK, number, old, new);
    return CONTINUE;
}

static action on_linkat(const struct call *call) {
    return linked(call, DESCRIPTOR(0), ARGUMENT(1), DESCRIPTOR(2), ARGUMENT(3), (int)ARGUMENT(4));
}

static action named(const struct call *call, int directory, uint64_t name, int kind, int event) {
    char path[PATH_ROOM];
    if (!resolve(call->thread, directory, name, path) || !is_below(path)) return CONTINUE;
    if (succeeds(call, kind)) put_text(event, -1, 0, path);
    return CONTINUE;
}

static action on_unlinkat(const struct call *call) { return named(call, DESCRIPTOR(0), ARGUMENT(1), K_UNLINK, UNLINK); }
static action on_mkdirat(const struct call *call) { return named(call, DESCRIPTOR(0), ARGUMENT(1), K_MKDIR, MKDIR); }

static action symlinked(const struct call *call, uint64_t target, int directory, uint64_t name) {
    char path[PATH_ROOM], text[PATH_ROOM];
    if (!resolve(call->thread, directory, name, path) || !is_below(path)) return CONTINUE;
    read_text(call->thread, target, text);
    if (succeeds(call, K_LINK)) put_two(SYMLINK, -1, text, path);
    return CONTINUE;
}

static action on_symlinkat(const struct call *call) {
    return symlinked(call, ARGUMENT(0), DESCRIPTOR(1), ARGUMENT(2));
}

static action on_mknodat(const struct call *call) {
    char path[PATH_ROOM];
    if (resolve(call->thread, DESCRIPTOR(0), ARGUMENT(1), path) && is_below(path)) refuse("mknod");
    return CONTINUE;
}

/* The syncs in progress. */
static struct { pid_t thread; int file, ends; } syncing[256];
static int sync_count;

static action synced(const struct call *call, int begins) {
    struct file *file = file_of(call, DESCRIPTOR(0));
    if (!file || file->number == MARKS_FILE) return CONTINUE;
    int fault = fault_for(K_SYNC);
    if (fault == NO_FAULT) {
        if (sync_count == 256) die(96, "too many syncs at once");
        syncing[sync_count].thread = call->thread;
        syncing[sync_count].file = file->number;
        syncing[sync_count++].ends = begins + 1;
        put(begins, file->number, call->thread, 0, "", 0);
        return STOP_AT_EXIT;
    }
    skip(call, fault == LIE ? 0 : -fault_errno);
    return CONTINUE;
}

static void ended(pid_t thread, int64_t result) {
    for (int at = 0; at < sync_count; at++) {
        if (syncing[at].thread != thread) continue;
        if (!result) put(syncing[at].ends, syncing[at].file, thread, 0, "", 0);
        syncing[at] = syncing[--sync_count];
        return;
    }
}

static action on_fsync(const struct call *call) { return synced(call, SYNC_BEGINS); }
static action on_fdatasync(const struct call *call) { return synced(call, DATASYNC_BEGINS); }

static action on_range(const struct call *call) {
    struct file *file = file_of(call, DESCRIPTOR(0));
    if (!file) return CONTINUE;
    int fault = fault_for(K_RANGE);
    put(RANGE, file->number, (int64_t)ARGUMENT(1), (int64_t)ARGUMENT(2), "", 0);
    if (fault != NO_FAULT) skip(call, fault == LIE ? 0 : -fault_errno);
    return CONTINUE;
}

static action on_mmap(const struct call *call) {
    if (!file_of(call, DESCRIPTOR(4))) return CONTINUE;
    /* mprotect could make it writable if the descriptor is. */
    if ((position_of(call->thread, DESCRIPTOR(4)).flags & O_ACCMODE) != O_RDONLY) refuse("a shared mapping");
    return CONTINUE;
}

static action on_ioctl(const struct call *call) {
    if (file_of(call, DESCRIPTOR(0))) refuse("ioctl");
    return CONTINUE;
}

static action on_splice(const struct call *call) { return copied(call, DESCRIPTOR(2), ARGUMENT(3)); }
static action on_unknown(const struct call *call) { die(95, "unsupported: system call %ld", call->number); }

#ifdef SYS_open
static action on_open(const struct call *call) { return opened_by(call, AT_FDCWD, ARGUMENT(0), (int)ARGUMENT(1)); }
static action on_creat(const struct call *call) {
    return opened_by(call, AT_FDCWD, ARGUMENT(0), O_CREAT | O_WRONLY | O_TRUNC);
}
static action on_rename(const struct call *call) { return renamed(call, AT_FDCWD, ARGUMENT(0), AT_FDCWD, ARGUMENT(1), 0); }
static action on_link(const struct call *call) { return linked(call, AT_FDCWD, ARGUMENT(0), AT_FDCWD, ARGUMENT(1), 0); }
static action on_unlink(const struct call *call) { return named(call, AT_FDCWD, ARGUMENT(0), K_UNLINK, UNLINK); }
static action on_mkdir(const struct call *call) { return named(call, AT_FDCWD, ARGUMENT(0), K_MKDIR, MKDIR); }
static action on_symlink(const struct call *call) { return symlinked(call, ARGUMENT(0), AT_FDCWD, ARGUMENT(1)); }
static action on_mknod(const struct call *call) {
    char path[PATH_ROOM];
    if (resolve(call->thread, AT_FDCWD, ARGUMENT(0), path) && is_below(path)) refuse("mknod");
    return CONTINUE;
}
#endif

static const struct { unsigned number; action (*on)(const struct call *); } calls[] = {
    { SYS_openat, on_openat }, { SYS_openat2, on_openat2 }, { SYS_write, on_write }, { SYS_pwrite64, on_pwrite },
    { SYS_writev, on_writev }, { SYS_pwritev, on_pwritev }, { SYS_pwritev2, on_pwritev2 },
    { SYS_copy_file_range, on_copy_file_range }, { SYS_sendfile, on_sendfile }, { SYS_splice, on_splice },
    { SYS_read, on_read_on }, { SYS_pread64, on_pread }, { SYS_ftruncate, on_ftruncate }, { SYS_truncate, on_truncate },
    { SYS_fallocate, on_fallocate }, { SYS_renameat2, on_renameat2 }, { SYS_linkat, on_linkat },
    { SYS_unlinkat, on_unlinkat }, { SYS_mkdirat, on_mkdirat }, { SYS_symlinkat, on_symlinkat },
    { SYS_mknodat, on_mknodat }, { SYS_fsync, on_fsync }, { SYS_fdatasync, on_fdatasync }, { SYS_sync_file_range, on_range },
    { SYS_mmap, on_mmap }, { SYS_ioctl, on_ioctl }, { SYS_sync, on_unknown }, { SYS_syncfs, on_unknown },
    { SYS_io_uring_setup, on_unknown }, { SYS_io_submit, on_unknown }, { SYS_open_by_handle_at, on_unknown },
#ifdef SYS_renameat
    { SYS_renameat, on_renameat },
#endif
#ifdef SYS_open
    { SYS_open, on_open }, { SYS_creat, on_creat }, { SYS_rename, on_rename }, { SYS_link, on_link },
    { SYS_unlink, on_unlink }, { SYS_rmdir, on_unlink }, { SYS_mkdir, on_mkdir }, { SYS_symlink, on_symlink },
    { SYS_mknod, on_mknod },
#endif
};
#define CALLS (sizeof calls / sizeof *calls)

static action entered(const struct call *call) {
    for (size_t at = 0; at < CALLS; at++)
        if (calls[at].number == call->number) return calls[at].on(call);
    return CONTINUE;
}

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#else
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif
#define LOAD(what) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offsetof(struct seccomp_data, what))
#define ANSWER(what) BPF_STMT(BPF_RET | BPF_K, what)
#define IS(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, yes, no)
#define HAS(bits, yes, no) BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, yes, no)

/* Traps the calls above and no others. Anonymous mappings and most ioctl requests pass. */
static void install_filter(void) {
    static const struct sock_filter begin[] = {
        LOAD(arch), IS(ARCHITECTURE, 1, 0), ANSWER(SECCOMP_RET_KILL_PROCESS), LOAD(nr),
        IS(SYS_mmap, 0, 4), LOAD(args[3]), HAS(MAP_ANONYMOUS, 1, 0), HAS(MAP_SHARED, 1, 0), ANSWER(SECCOMP_RET_ALLOW),
        LOAD(nr), IS(SYS_ioctl, 0, 4), LOAD(args[1]), IS((unsigned)FICLONE, 2, 0), IS((unsigned)FICLONERANGE, 1, 0),
        ANSWER(SECCOMP_RET_ALLOW), LOAD(nr),
    };
    const size_t length = sizeof begin / sizeof *begin;
    struct sock_filter filter[sizeof begin / sizeof *begin + 2 * CALLS + 1];
    memcpy(filter, begin, sizeof begin);
    for (size_t at = 0; at < CALLS; at++) {
        filter[length + 2 * at] = (struct sock_filter)IS(calls[at].number, 0, 1);
        filter[length + 2 * at + 1] = (struct sock_filter)ANSWER(SECCOMP_RET_TRACE);
    }
    filter[length + 2 * CALLS] = (struct sock_filter)ANSWER(SECCOMP_RET_ALLOW);
    struct sock_fprog program = { (unsigned short)(length + 2 * CALLS + 1), filter };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        die(94, "calls cannot be trapped here: %s", strerror(errno));
}

/* Starts the program, stopped at its first traced call. */
static pid_t start(char **arguments) {
    int ready[2];
    char byte = 0;
    if (pipe(ready)) die(96, "no pipe: %s", strerror(errno));
    pid_t child = fork();
    if (child < 0) die(96, "cannot fork: %s", strerror(errno));
    if (!child) {
        close(ready[1]);
        if (read(ready[0], &byte, 1) != 1) _exit(94);
        close(ready[0]);
        install_filter();
        execvp(arguments[0], arguments);
        die(96, "cannot run %s: %s", arguments[0], strerror(errno));
    }
    close(ready[0]);
    const unsigned options = PTRACE_O_TRACESECCOMP | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK
                             | PTRACE_O_TRACEEXEC | PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL;
    if (trace(PTRACE_SEIZE, child, 0, options)) die(94, "processes cannot be traced here: %s", strerror(errno));
    if (write(ready[1], &byte, 1) != 1) die(96, "cannot start the program");
    close(ready[1]);
    return child;
}

static void stopped(pid_t thread, int status) {
    struct call call;
    int signal = WSTOPSIG(status), event = status >> 16;
    if (event == PTRACE_EVENT_SECCOMP) {
        if (read_call(thread, &call)) trace((long)entered(&call), thread, 0, 0);
    } else if (signal == (SIGTRAP | 0x80)) {
        ended(thread, result_of(thread));
        trace(PTRACE_CONT, thread, 0, 0);
    } else if (event == PTRACE_EVENT_STOP && signal != SIGTRAP) {
        trace(PTRACE_LISTEN, thread, 0, 0);
    } else {
        trace(PTRACE_CONT, thread, 0, event ? 0 : (uintptr_t)signal);
    }
}

static void begin(void) {
    const char *value;
    char kind[16], what[16], times[16];
    if ((value = getenv("CLOACA_RECORD_ROOT")) && !realpath(value, root)) die(96, "%s: %s", value, strerror(errno));
    if ((value = getenv("CLOACA_RECORD_MARKS"))) {
        char parent[PATH_ROOM], resolved[PATH_MAX];
        snprintf(parent, sizeof parent, "%s", value);
        char *last = strrchr(parent, '/');
        if (!last) die(96, "CLOACA_RECORD_MARKS is not an absolute path");
        *last++ = 0;
        if (!realpath(parent, resolved)) die(96, "%s: %s", parent, strerror(errno));
        snprintf(marks, sizeof marks, "%s/%s", resolved, last);
    }
    if ((value = getenv("CLOACA_RECORD_TO")) && !(out = fopen(value, "we")))
        die(98, "%s: %s", value, strerror(errno));
    if ((value = getenv("CLOACA_FAULT"))) {
        if (sscanf(value, "%15[^:]:%lu:%15[^:]:%15s", kind, &fault_nth, what, times) != 4) die(99, "%s", value);
        for (int candidate = 0; candidate < KINDS; candidate++)
            if (!strcmp(kind, kind_names[candidate])) fault_kind = candidate;
        if (!strcmp(kind, "any")) fault_kind = K_ANY;
        fault_what = !strcmp(what, "short") ? SHORT : !strcmp(what, "lie") ? LIE : FAIL;
        fault_errno = atoi(what);
        fault_forever = !strcmp(times, "forever");
    }
    put_text(ROOT, -1, 0, root);
}

static void write_counts(void) {
    const char *path = getenv("CLOACA_RECORD_COUNTS");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (!file) return;
    for (int kind = 0; kind < KINDS; kind++) fprintf(file, "%s %lu\n", kind_names[kind], counts[kind]);
    fprintf(file, "any %lu\n", total);
    fclose(file);
}

int main(int count, char **arguments) {
    if (count < 2) die(99, "record PROGRAM ARGUMENTS ...");
    begin();
    pid_t program = start(arguments + 1), thread;
    int status, end = 0;
    while ((thread = next_stop(&status)) > 0) {
        if (WIFSTOPPED(status)) {
            stopped(thread, status);
        } else {
            ended(thread, -EINTR);
            if (thread == program) end = status;
        }
    }
    if (out && fclose(out)) die(97, "cannot write the recording");
    write_counts();
    if (WIFEXITED(end)) return WEXITSTATUS(end);
    signal(WTERMSIG(end), SIG_DFL);
    raise(WTERMSIG(end));
    return 96;
}
