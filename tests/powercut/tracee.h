/* A traced thread that has stopped at a system call: its arguments, its memory, its descriptors and its paths, on x86_64
 * and aarch64. */
#ifndef CLOACA_TRACEE_H
#define CLOACA_TRACEE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#define PATH_ROOM 8192

/* A thread at the entry of a traced call. */
struct call {
    pid_t thread;
    long number;
    uint64_t arguments[6];
};

/* The offset and flags of a descriptor. */
struct position {
    int64_t at;
    int flags;
};

/* Ends the tracer with an error, and with it all traced processes. */
_Noreturn void die(int status, const char *format, ...);

long trace(long request, pid_t thread, uintptr_t address, uintptr_t data);
/* Waits for the next thread that stops or ends, and returns it; -1 when none is left. */
pid_t next_stop(int *status);
/* Reads the call of a thread; returns 0 if the thread was killed. */
int read_call(pid_t thread, struct call *call);

/* Runs the call of a thread; returns its result or a negative errno, and -EINTR if the thread is gone. Other threads that
 * stop meanwhile wait, so nothing is recorded between a call and its record. */
int64_t run(const struct call *call);
/* The result of a call; the thread has stopped at its exit. */
int64_t result_of(pid_t thread);
/* Skips a call and makes it return `result`. */
void skip(const struct call *call, int64_t result);
/* Changes an argument of a call before it runs; the caller restores it before the thread continues. */
void set_argument(const struct call *call, int argument, uint64_t value);

void read_memory(pid_t thread, uint64_t address, void *bytes, size_t length);
void read_text(pid_t thread, uint64_t address, char text[PATH_ROOM]);

/* Gets the device, inode and size behind a descriptor; returns whether there is such a descriptor. */
int status_of(pid_t thread, int descriptor, struct stat *status);
struct position position_of(pid_t thread, int descriptor);
/* Gets the path behind a descriptor, without symbolic links; returns whether it has one. */
int path_of(pid_t thread, int descriptor, char path[PATH_ROOM]);
/* Gets the path of a name in a call, resolving symbolic links except in the last part; unresolved if its directory does not
 * exist. Returns whether there is a name at all. */
int resolve(pid_t thread, int directory, uint64_t name, char path[PATH_ROOM]);
/* Gets the path under which this process reaches a file of a thread, with all symbolic links. */
void reach(pid_t thread, int directory, const char *name, char path[PATH_ROOM]);

#endif
