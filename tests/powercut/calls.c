/* Makes every system call that the recorder knows, each after a mark that names it, through the C library or directly.
 *
 *   calls every libc|raw DIRECTORY MARKS       every call
 *   calls refused CALL DIRECTORY MARKS         a call that the recorder does not support
 *   calls late|early libc|raw DIRECTORY MARKS  writes and an exchange of two directories, each acknowledged after its
 *                                              sync (late) or before it (early)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static int marks, is_raw;

static void mark(const char *text) {
    if (write(marks, text, strlen(text)) < 0) _exit(3);
}

static void mark_number(const char *text, int number) {
    char both[64];
    snprintf(both, sizeof both, "%s %d", text, number);
    mark(both);
}

static long checked(long result, const char *what) {
    if (result >= 0) return result;
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    _exit(4);
}

/* Makes a call in one of the two ways, after its mark. */
#define DO(what, through_libc, by_hand) \
    (mark(what), checked(is_raw ? syscall by_hand : (long)(through_libc), what))

/* A call that one architecture has only in its newer form is made directly in that form. */
#ifdef SYS_rename
#define HAND_RENAME(from, to) (SYS_rename, from, to)
#define HAND_LINK(from, to) (SYS_link, from, to)
#define HAND_UNLINK(path) (SYS_unlink, path)
#define HAND_RMDIR(path) (SYS_rmdir, path)
#define HAND_MKDIR(path) (SYS_mkdir, path, 0700)
#define HAND_SYMLINK(target, path) (SYS_symlink, target, path)
#define HAND_OPEN(path, flags) (SYS_open, path, flags, 0600)
#else
#define HAND_RENAME(from, to) (SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0)
#define HAND_LINK(from, to) (SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0)
#define HAND_UNLINK(path) (SYS_unlinkat, AT_FDCWD, path, 0)
#define HAND_RMDIR(path) (SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR)
#define HAND_MKDIR(path) (SYS_mkdirat, AT_FDCWD, path, 0700)
#define HAND_SYMLINK(target, path) (SYS_symlinkat, target, AT_FDCWD, path)
#define HAND_OPEN(path, flags) (SYS_openat, AT_FDCWD, path, flags, 0600)
#endif

static void *write_from_a_thread(void *fd) {
    DO("write of a thread", write(*(int *)fd, "thread", 6), (SYS_write, *(int *)fd, "thread", 6));
    return NULL;
}

static void write_in_all_ways(int fd) {
    struct iovec parts[2] = { { "one", 3 }, { "two!", 4 } };
    DO("write", write(fd, "hello", 5), (SYS_write, fd, "hello", 5));
    DO("pwrite", pwrite(fd, "world", 5, 5), (SYS_pwrite64, fd, "world", 5, 5));
    DO("writev", writev(fd, parts, 2), (SYS_writev, fd, parts, 2));
    DO("pwritev", pwritev(fd, parts, 2, 100), (SYS_pwritev, fd, parts, 2, 100, 0));
    DO("pwritev2", pwritev2(fd, parts, 1, 200, 0), (SYS_pwritev2, fd, parts, 1, 200, 0, 0));
    int copy = (int)DO("dup", dup(fd), (SYS_dup, fd));
    DO("write to a dup", write(copy, "again", 5), (SYS_write, copy, "again", 5));
    DO("close", close(copy), (SYS_close, copy));
    pthread_t thread;
    pthread_create(&thread, NULL, write_from_a_thread, &fd);
    pthread_join(thread, NULL);
    pid_t child = fork();
    if (!child) {
        DO("write of a child", write(fd, "child", 5), (SYS_write, fd, "child", 5));
        _exit(0);
    }
    waitpid(child, NULL, 0);
    DO("ftruncate", ftruncate(fd, 150), (SYS_ftruncate, fd, 150));
    DO("truncate", truncate("d/a", 120), (SYS_truncate, "d/a", 120));
}

static void sync_in_all_ways(int fd, int directory) {
    DO("fsync", fsync(fd), (SYS_fsync, fd));
    DO("fdatasync", fdatasync(fd), (SYS_fdatasync, fd));
    DO("sync_file_range", sync_file_range(fd, 0, 10, SYNC_FILE_RANGE_WRITE),
       (SYS_sync_file_range, fd, 0, 10, SYNC_FILE_RANGE_WRITE));
    DO("fsync of a directory", fsync(directory), (SYS_fsync, directory));
}

static void allocate(int fd) {
    DO("fallocate", fallocate(fd, 0, 0, 8192), (SYS_fallocate, fd, 0, 0, 8192));
    DO("fallocate beyond the end", fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 16384),
       (SYS_fallocate, fd, FALLOC_FL_KEEP_SIZE, 0, 16384));
    const int hole = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    DO("a hole", fallocate(fd, hole, 2, 6), (SYS_fallocate, fd, hole, 2, 6));
    /* Not every file system supports it. */
    mark("a range of zeros");
    long result = is_raw ? syscall(SYS_fallocate, fd, FALLOC_FL_ZERO_RANGE, 8000, 1000)
                         : fallocate(fd, FALLOC_FL_ZERO_RANGE, 8000, 1000);
    if (result < 0 && errno != EOPNOTSUPP) checked(result, "a range of zeros");
}

static void copy_in_all_ways(int from) {
    int to = (int)DO("open to copy", open("c", O_CREAT | O_RDWR, 0600), HAND_OPEN("c", O_CREAT | O_RDWR));
    off_t from_at = 0, to_at = 50;
    int ends[2];
    DO("copy_file_range", copy_file_range(from, &from_at, to, &to_at, 20, 0),
       (SYS_copy_file_range, from, &from_at, to, &to_at, 20, 0));
    from_at = 0;
    DO("sendfile", sendfile(to, from, &from_at, 7), (SYS_sendfile, to, from, &from_at, 7));
    if (pipe(ends) || write(ends[1], "spliced", 7) != 7) _exit(3);
    DO("splice", splice(ends[0], NULL, to, NULL, 7, 0), (SYS_splice, ends[0], NULL, to, NULL, 7, 0));
    close(to);
    to = (int)DO("open to append", open("c", O_WRONLY | O_APPEND), HAND_OPEN("c", O_WRONLY | O_APPEND));
    DO("append", write(to, "end", 3), (SYS_write, to, "end", 3));
    DO("append by pwrite", pwrite(to, "more", 4, 0), (SYS_pwrite64, to, "more", 4, 0));
    close(to);
    /* The recorder refuses only writable shared mappings. */
    to = (int)DO("open to read", open("c", O_RDONLY), HAND_OPEN("c", O_RDONLY));
    mark("map to read");
    if (mmap(NULL, 10, PROT_READ, MAP_SHARED, to, 0) == MAP_FAILED) _exit(3);
    mark("map as one's own");
    if (mmap(NULL, 10, PROT_READ | PROT_WRITE, MAP_PRIVATE, from, 0) == MAP_FAILED) _exit(3);
    close(to);
}

static void rename_in_all_ways(int directory) {
    DO("rename", rename("c", "e"), HAND_RENAME("c", "e"));
    DO("rename into a directory", rename("e", "d/e"), HAND_RENAME("e", "d/e"));
    DO("renameat2", renameat2(directory, "e", AT_FDCWD, "f", RENAME_NOREPLACE),
       (SYS_renameat2, directory, "e", AT_FDCWD, "f", RENAME_NOREPLACE));
    DO("mkdir", mkdir("g", 0700), HAND_MKDIR("g"));
    DO("exchange", renameat2(AT_FDCWD, "d", AT_FDCWD, "g", RENAME_EXCHANGE),
       (SYS_renameat2, AT_FDCWD, "d", AT_FDCWD, "g", RENAME_EXCHANGE));
    DO("exchange a file", renameat2(directory, "a", AT_FDCWD, "f", RENAME_EXCHANGE),
       (SYS_renameat2, directory, "a", AT_FDCWD, "f", RENAME_EXCHANGE));
}

static void link_in_all_ways(int directory) {
    char through[64];
    DO("link", link("f", "h"), HAND_LINK("f", "h"));
    DO("linkat", linkat(AT_FDCWD, "f", directory, "i", 0), (SYS_linkat, AT_FDCWD, "f", directory, "i", 0));
    int unnamed = (int)DO("open without a name", open(".", O_TMPFILE | O_RDWR, 0600), HAND_OPEN(".", O_TMPFILE | O_RDWR));
    DO("write without a name", write(unnamed, "none", 4), (SYS_write, unnamed, "none", 4));
    snprintf(through, sizeof through, "/proc/self/fd/%d", unnamed);
    DO("give it a name", linkat(AT_FDCWD, through, AT_FDCWD, "j", AT_SYMLINK_FOLLOW),
       (SYS_linkat, AT_FDCWD, through, AT_FDCWD, "j", AT_SYMLINK_FOLLOW));
    DO("symlink", symlink("j", "k"), HAND_SYMLINK("j", "k"));
    int fd = (int)DO("open through a symlink", open("k", O_WRONLY), HAND_OPEN("k", O_WRONLY));
    DO("write through a symlink", write(fd, "N", 1), (SYS_write, fd, "N", 1));
    snprintf(through, sizeof through, "/proc/self/fd/%d/l", directory);
    fd = (int)DO("open through a descriptor", open(through, O_CREAT | O_WRONLY, 0600), HAND_OPEN(through, O_CREAT | O_WRONLY));
    DO("write to it", write(fd, "l", 1), (SYS_write, fd, "l", 1));
    DO("unlink", unlink("h"), HAND_UNLINK("h"));
    DO("write to what has no name any more", write(fd, "l", 1), (SYS_write, fd, "l", 1));
    DO("unlinkat", unlinkat(directory, "i", 0), (SYS_unlinkat, directory, "i", 0));
    DO("rmdir", rmdir("d"), HAND_RMDIR("d"));
    DO("mkdirat", mkdirat(directory, "m", 0700), (SYS_mkdirat, directory, "m", 0700));
}

static void every_call(void) {
    DO("mkdir of the first", mkdir("d", 0700), HAND_MKDIR("d"));
    int directory = (int)DO("open a directory", open("d", O_DIRECTORY), HAND_OPEN("d", O_DIRECTORY));
    int fd = (int)DO("openat", openat(directory, "a", O_CREAT | O_EXCL | O_RDWR, 0600),
                     (SYS_openat, directory, "a", O_CREAT | O_EXCL | O_RDWR, 0600));
    write_in_all_ways(fd);
    sync_in_all_ways(fd, directory);
    allocate(fd);
    copy_in_all_ways(fd);
    rename_in_all_ways(directory);
    link_in_all_ways(directory);
    DO("creat", open("n", O_CREAT | O_WRONLY | O_TRUNC, 0600), HAND_OPEN("n", O_CREAT | O_WRONLY | O_TRUNC));
    mark("end");
}

static void refused(const char *what) {
    int fd = open("a", O_CREAT | O_RDWR, 0600), other = open("b", O_CREAT | O_RDWR, 0600);
    if (ftruncate(fd, 4096)) _exit(3);
    if (!strcmp(what, "mmap")) mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (!strcmp(what, "mprotect")) mprotect(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0), 4096, PROT_WRITE);
    if (!strcmp(what, "clone")) ioctl(other, FICLONE, fd);
    if (!strcmp(what, "io_uring")) syscall(SYS_io_uring_setup, 1, NULL);
    if (!strcmp(what, "aio")) syscall(SYS_io_submit, 0, 0, NULL);
    if (!strcmp(what, "sync")) sync();
    if (!strcmp(what, "syncfs")) syncfs(fd);
    if (!strcmp(what, "dsync")) open("a", O_WRONLY | O_DSYNC);
    if (!strcmp(what, "dsync-write")) pwritev2(fd, &(struct iovec){ "x", 1 }, 1, 0, RWF_DSYNC);
    if (!strcmp(what, "collapse")) fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, 4096);
    if (!strcmp(what, "mknod")) mknod("c", S_IFIFO | 0600, 0);
    if (!strcmp(what, "rename-out")) rename("a", "../out");
    if (!strcmp(what, "link-in")) link("../disk.marks", "in");
}

static void acknowledged(int is_early) {
    unsigned char bytes[512];
    int fd = open("a", O_CREAT | O_RDWR, 0600), directory = open(".", O_RDONLY);
    fsync(directory);
    for (int number = 0; number < 60; number++) {
        memset(bytes, number + 1, sizeof bytes);
        checked(is_raw ? syscall(SYS_pwrite64, fd, bytes, 512, 512 * number) : pwrite(fd, bytes, 512, 512 * number), "pwrite");
        if (is_early) mark_number("acknowledged", number);
        checked(is_raw ? syscall(SYS_fdatasync, fd) : fdatasync(fd), "fdatasync");
        if (!is_early) mark_number("acknowledged", number);
    }
    if (mkdir("old", 0700) || mkdir("new", 0700) || mkdir("new/it", 0700)) _exit(3);
    fsync(open("new", O_RDONLY));
    fsync(directory);
    for (int number = 0; number < 60; number++) {
        checked(is_raw ? syscall(SYS_renameat2, AT_FDCWD, "new", AT_FDCWD, "old", RENAME_EXCHANGE)
                       : renameat2(AT_FDCWD, "new", AT_FDCWD, "old", RENAME_EXCHANGE), "renameat2");
        if (is_early) mark_number("swapped", number);
        checked(is_raw ? syscall(SYS_fsync, directory) : fsync(directory), "fsync");
        if (!is_early) mark_number("swapped", number);
    }
}

int main(int count, char **arguments) {
    if (count != 5 || chdir(arguments[3])) return 2;
    marks = open(arguments[4], O_CREAT | O_WRONLY, 0600);
    is_raw = !strcmp(arguments[2], "raw");
    if (!strcmp(arguments[1], "every")) every_call();
    else if (!strcmp(arguments[1], "refused")) refused(arguments[2]);
    else acknowledged(!strcmp(arguments[1], "early"));
    return 0;
}
