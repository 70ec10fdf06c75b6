#define _GNU_SOURCE
#include "tracee.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/ptrace.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

void die(int status, const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    fputs("record: ", stderr);
    vfprintf(stderr, format, rest);
    fputc('\n', stderr);
    va_end(rest);
    _exit(status);
}

/* <sys/ptrace.h> and <linux/ptrace.h> cannot be used together, and only the latter has all that is used here. */
long trace(long request, pid_t thread, uintptr_t address, uintptr_t data) {
    return syscall(SYS_ptrace, request, thread, address, data);
}

int read_call(pid_t thread, struct call *call) {
    struct ptrace_syscall_info info;
    if (trace(PTRACE_GET_SYSCALL_INFO, thread, sizeof info, (uintptr_t)&info) <= 0) {
        if (errno == ESRCH) return 0;
        die(94, "cannot read the call of a thread: %s", strerror(errno));
    }
    if (info.op != PTRACE_SYSCALL_INFO_SECCOMP) die(93, "a thread stopped elsewhere than at a call");
    call->thread = thread;
    call->number = (long)info.seccomp.nr;
    memcpy(call->arguments, info.seccomp.args, sizeof call->arguments);
    return 1;
}

int64_t result_of(pid_t thread) {
    struct ptrace_syscall_info info;
    if (trace(PTRACE_GET_SYSCALL_INFO, thread, sizeof info, (uintptr_t)&info) <= 0) return -EINTR;
    if (info.op != PTRACE_SYSCALL_INFO_EXIT) die(93, "a thread stopped elsewhere than at the exit of a call");
    return info.exit.rval;
}

/* Stops of threads other than the awaited one, oldest first. */
static struct { pid_t thread; int status; } *waiting;
static size_t waiting_from, waiting_to, waiting_room;

static void queue_stop(pid_t thread, int status) {
    if (waiting_to == waiting_room) {
        waiting_room = waiting_room ? 2 * waiting_room : 64;
        if (!(waiting = realloc(waiting, waiting_room * sizeof *waiting))) die(96, "no memory");
    }
    waiting[waiting_to].thread = thread;
    waiting[waiting_to++].status = status;
}

pid_t next_stop(int *status) {
    if (waiting_from == waiting_to) {
        waiting_from = waiting_to = 0;
        return waitpid(-1, status, __WALL);
    }
    *status = waiting[waiting_from].status;
    return waiting[waiting_from++].thread;
}

int64_t run(const struct call *call) {
    if (trace(PTRACE_SYSCALL, call->thread, 0, 0)) return -EINTR;
    for (;;) {
        int status;
        pid_t thread = waitpid(-1, &status, __WALL);
        if (thread < 0) return -EINTR;
        if (thread != call->thread) {
            queue_stop(thread, status);
        } else if (!WIFSTOPPED(status)) {
            queue_stop(thread, status);
            return -EINTR;
        } else if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
            return result_of(thread);
        } else if (trace(PTRACE_SYSCALL, thread, 0, 0)) {
            return -EINTR;
        }
    }
}

static struct user_regs_struct registers_of(pid_t thread) {
    struct user_regs_struct registers = { 0 };
    struct iovec part = { &registers, sizeof registers };
    trace(PTRACE_GETREGSET, thread, NT_PRSTATUS, (uintptr_t)&part);
    return registers;
}

static void set_registers(pid_t thread, struct user_regs_struct *registers) {
    struct iovec part = { registers, sizeof *registers };
    trace(PTRACE_SETREGSET, thread, NT_PRSTATUS, (uintptr_t)&part);
}

#if defined(__x86_64__)
void skip(const struct call *call, int64_t result) {
    struct user_regs_struct registers = registers_of(call->thread);
    registers.orig_rax = (unsigned long long)-1;
    registers.rax = (unsigned long long)result;
    set_registers(call->thread, &registers);
}

void set_argument(const struct call *call, int argument, uint64_t value) {
    struct user_regs_struct registers = registers_of(call->thread);
    if (argument != 2) die(93, "only the third argument of a call is ever changed");
    registers.rdx = value;
    set_registers(call->thread, &registers);
}
#elif defined(__aarch64__)
void skip(const struct call *call, int64_t result) {
    struct user_regs_struct registers = registers_of(call->thread);
    registers.regs[0] = (unsigned long long)result;
    set_registers(call->thread, &registers);
    int none = -1;
    struct iovec part = { &none, sizeof none };
    trace(PTRACE_SETREGSET, call->thread, NT_ARM_SYSTEM_CALL, (uintptr_t)&part);
}

void set_argument(const struct call *call, int argument, uint64_t value) {
    struct user_regs_struct registers = registers_of(call->thread);
    registers.regs[argument] = value;
    set_registers(call->thread, &registers);
}
#else
#error "the recorder knows the registers of x86_64 and aarch64"
#endif

void read_memory(pid_t thread, uint64_t address, void *bytes, size_t length) {
    struct iovec here = { bytes, length }, there = { (void *)(uintptr_t)address, length };
    if (process_vm_readv(thread, &here, 1, &there, 1, 0) != (ssize_t)length)
        die(96, "cannot read the memory of a thread: %s", strerror(errno));
}

void read_text(pid_t thread, uint64_t address, char text[PATH_ROOM]) {
    for (size_t length = 0; length < PATH_ROOM;) {
        /* Not beyond the page: the next one may be unmapped. */
        size_t part = 4096 - (address + length) % 4096;
        if (part > PATH_ROOM - length) part = PATH_ROOM - length;
        struct iovec here = { text + length, part }, there = { (void *)(uintptr_t)(address + length), part };
        if (process_vm_readv(thread, &here, 1, &there, 1, 0) != (ssize_t)part) break;
        if (memchr(text + length, 0, part)) return;
        length += part;
    }
    text[0] = 0;
}

static void link_of(pid_t thread, int descriptor, char link[64]) {
    snprintf(link, 64, "/proc/%d/fd/%d", thread, descriptor);
}

int status_of(pid_t thread, int descriptor, struct stat *status) {
    char link[64];
    link_of(thread, descriptor, link);
    return !stat(link, status);
}

struct position position_of(pid_t thread, int descriptor) {
    char name[64], text[256];
    struct position position = { 0, 0 };
    long long at;
    snprintf(name, sizeof name, "/proc/%d/fdinfo/%d", thread, descriptor);
    int file = open(name, O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (length < 0) die(96, "cannot read %s: %s", name, strerror(errno));
    close(file);
    text[length] = 0;
    if (sscanf(text, "pos: %lld flags: %o", &at, (unsigned *)&position.flags) != 2) die(96, "%s: %s", name, text);
    position.at = at;
    return position;
}

int path_of(pid_t thread, int descriptor, char path[PATH_ROOM]) {
    char link[64];
    link_of(thread, descriptor, link);
    ssize_t length = readlink(link, path, PATH_ROOM - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return path[0] == '/';
}

void reach(pid_t thread, int directory, const char *name, char path[PATH_ROOM]) {
    static const char self[] = "/proc/self/", this_thread[] = "/proc/thread-self/";
    int length;
    if (!strncmp(name, self, sizeof self - 1))
        length = snprintf(path, PATH_ROOM, "/proc/%d/%s", thread, name + sizeof self - 1);
    else if (!strncmp(name, this_thread, sizeof this_thread - 1))
        length = snprintf(path, PATH_ROOM, "/proc/%d/%s", thread, name + sizeof this_thread - 1);
    else if (name[0] == '/')
        length = snprintf(path, PATH_ROOM, "%s", name);
    else if (directory == AT_FDCWD)
        length = snprintf(path, PATH_ROOM, "/proc/%d/cwd/%s", thread, name);
    else
        length = snprintf(path, PATH_ROOM, "/proc/%d/fd/%d/%s", thread, directory, name);
    if (length >= PATH_ROOM) path[0] = 0;
}

int resolve(pid_t thread, int directory, uint64_t name, char path[PATH_ROOM]) {
    char text[PATH_ROOM], reached[PATH_ROOM], parent[PATH_MAX];
    read_text(thread, name, text);
    size_t length = strlen(text);
    while (length > 1 && text[length - 1] == '/') text[--length] = 0;
    if (!length) return 0;
    reach(thread, directory, text, reached);
    char *last = strrchr(reached, '/');
    if (!last) return 0;
    if (!strcmp(last, "/.") || !strcmp(last, "/..")) return realpath(reached, path) != NULL;
    *last++ = 0;
    /* Without such a directory the call will fail, but is counted. */
    if (!realpath(reached[0] ? reached : "/", parent)) return snprintf(path, PATH_ROOM, "%s/%s", reached, last) < PATH_ROOM;
    return snprintf(path, PATH_ROOM, "%s/%s", strcmp(parent, "/") ? parent : "", last) < PATH_ROOM;
}
