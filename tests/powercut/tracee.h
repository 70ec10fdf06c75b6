/* A traced thread that has stopped at a system call: its arguments, its memory, its descriptors and its paths, on x86_64
 * and aarch64. */
#ifndef CLOACA_TRACEE_H
#define CLOACA_TRACEE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#define PATH_ROOM 8192

/* A thread at the entry of a call that is recorded. */
struct call {
    pid_t thread;
    long number;
    uint64_t arguments[6];
};

/* What a descriptor of a thread refers to. */
struct position {
    int64_t at;
    int flags;
};

/* Ends the tracer, and with it all that it traces. */
_Noreturn void give_up(int status, const char *format, ...);

long trace(long request, pid_t thread, uintptr_t address, uintptr_t data);
/* The next thread that has stopped or ended, and how; -1 when none is left. */
pid_t next_stop(int *status);
/* Whether the call could be read: not if the thread has been killed. */
int read_call(pid_t thread, struct call *call);

/* Lets the call of a thread happen, and returns its result or a negative errno; -EINTR if the thread is gone. Other
 * threads that stop meanwhile wait, so nothing recorded happens between a call and its record. */
int64_t run(const struct call *call);
/* The result of a call at whose exit a thread has stopped. */
int64_t result_of(pid_t thread);
/* Makes a call not happen and return this. */
void skip(const struct call *call, int64_t result);
/* Changes an argument of a call before it happens; changed back before the thread goes on. */
void set_argument(const struct call *call, int argument, uint64_t value);

void read_memory(pid_t thread, uint64_t address, void *bytes, size_t length);
void read_text(pid_t thread, uint64_t address, char text[PATH_ROOM]);

/* The device, inode and size of what a descriptor refers to; whether there is such a descriptor. */
int status_of(pid_t thread, int descriptor, struct stat *status);
struct position position_of(pid_t thread, int descriptor);
/* The path of what a descriptor refers to, free of symbolic links; whether it has one. */
int path_of(pid_t thread, int descriptor, char path[PATH_ROOM]);
/* The path of a name that a call uses, free of symbolic links but for the last part; as it stands where its directory is
 * not there. Whether there is a name at all. */
int resolve(pid_t thread, int directory, uint64_t name, char path[PATH_ROOM]);
/* The name by which this process reaches a file of a thread, symbolic links and all. */
void reach(pid_t thread, int directory, const char *name, char path[PATH_ROOM]);

#endif
