/* Counts the file operations of a stage below one folder, and ends its process group after the n-th.

   LD_PRELOAD this library with
     CHAOS_ROOT   the folder, absolute and without links
     CHAOS_STATE  a file of 16 zero bytes, shared by the stage's processes: the count, the group
     CHAOS_LOG    a file that gets a line "operation path" each (optional)
     CHAOS_AT     the count after which the group gets SIGKILL (optional)
     CHAOS_FULL   the count after which the disk is full: creating and writing fail with ENOSPC
                  (optional)

   Operations: create (of a file or folder), close (of a file that was open for writing), rename,
   remove. Lock files do not count, nor do processes of another group, such as the one that sends
   to MLflow; Ray's workers do, whatever their group. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST_FILES 65536
#define REAL(name) ((__typeof__(name) *)dlsym(RTLD_NEXT, #name))

struct state { uint64_t count; int64_t group; };

static struct state *state;
static const char *root;
static size_t root_length;
static int log_file = -1;
static uint64_t kill_at, full_at;
static unsigned char writes[MOST_FILES];

static int is_ray_worker(void) {
    char line[4096];
    int file = REAL(open)("/proc/self/cmdline", O_RDONLY);
    ssize_t size = file < 0 ? 0 : read(file, line, sizeof line);
    if (file >= 0) REAL(close)(file);
    return size > 0 && memmem(line, (size_t)size, "default_worker.py", 17) != NULL;
}

/* Begin to count, if the environment says so: at the start of a process, or called in a fork. */
__attribute__((constructor)) void chaos_begin(void) {
    const char *path = getenv("CHAOS_STATE"), *log = getenv("CHAOS_LOG");
    const char *at = getenv("CHAOS_AT"), *full = getenv("CHAOS_FULL");
    root = getenv("CHAOS_ROOT");
    if (state || !path || !root) return;
    int file = REAL(open)(path, O_RDWR | O_CLOEXEC);
    if (file < 0) return;
    struct state *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    REAL(close)(file);
    if (shared == MAP_FAILED) return;
    int64_t nobody = 0, mine = getpgrp();
    __atomic_compare_exchange_n(
        &shared->group, &nobody, mine, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    if (shared->group != mine && !is_ray_worker()) return;
    root_length = strlen(root);
    kill_at = at ? strtoull(at, NULL, 10) : 0;
    full_at = full ? strtoull(full, NULL, 10) : 0;
    if (log) log_file = REAL(open)(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    state = shared;
}

/* Take "/.", "/.." and empty names out of an absolute path, in place. */
static void simplify(char *path) {
    char *end = path, *next = path;
    while (*next) {
        while (*next == '/') next++;
        size_t length = strcspn(next, "/");
        if (length == 2 && !strncmp(next, "..", 2)) {
            while (end > path && *--end != '/') continue;
        } else if (length && !(length == 1 && *next == '.')) {
            *end++ = '/';
            memmove(end, next, length);
            end += length;
        }
        next += length;
    }
    *end = 0;
}

/* The absolute form of `path`, relative to the folder `at`, in `to`. */
static void absolute(int at, const char *path, char *to) {
    char folder[PATH_MAX] = "", link[64];
    if (path[0] != '/') {
        snprintf(link, sizeof link, at == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", at);
        ssize_t size = readlink(link, folder, sizeof folder - 2);
        size = size < 0 ? 0 : size;
        folder[size] = '/';
        folder[size + 1] = 0;
    }
    size_t length = strlen(folder);
    memcpy(to, folder, length);
    strncpy(to + length, path, PATH_MAX - length - 1);
    to[PATH_MAX - 1] = 0;
    simplify(to);
}

static int ends_with(const char *path, const char *end) {
    size_t length = strlen(path), wanted = strlen(end);
    return length >= wanted && !strcmp(path + length - wanted, end);
}

static int counts(const char *path) {
    return state && !strncmp(path, root, root_length) && path[root_length] == '/' &&
           !ends_with(path, ".lock") && !ends_with(path, "/lock");
}

static void passed(const char *operation, const char *path) {
    int before = errno;
    uint64_t count = __atomic_add_fetch(&state->count, 1, __ATOMIC_SEQ_CST);
    if (log_file >= 0) dprintf(log_file, "%s %s\n", operation, path + root_length + 1);
    if (kill_at && count == kill_at) {
        kill(-(pid_t)state->group, SIGKILL);
        for (;;) pause();
    }
    errno = before;
}

static int is_full(void) {
    return full_at && state && __atomic_load_n(&state->count, __ATOMIC_SEQ_CST) >= full_at;
}

typedef int (*opener)(int, const char *, int, ...);

static int opened(opener real, int at, const char *path, int flags, mode_t mode) {
    char whole[PATH_MAX];
    int existed = 1, writing = (flags & O_ACCMODE) != O_RDONLY;
    if (!state || !(writing || flags & O_CREAT)) return real(at, path, flags, mode);
    absolute(at, path, whole);
    if (!counts(whole)) return real(at, path, flags, mode);
    if (flags & O_CREAT) existed = !faccessat(at, path, F_OK, 0);
    if (!existed && is_full()) {
        errno = ENOSPC;
        return -1;
    }
    int file = real(at, path, flags, mode);
    if (file >= 0 && file < MOST_FILES) writes[file] = 1;
    if (file >= 0 && !existed) passed("create", whole);
    return file;
}

#define MODE(last) \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list more; \
        va_start(more, last); \
        mode = va_arg(more, mode_t); \
        va_end(more); \
    }

int open(const char *path, int flags, ...) {
    MODE(flags)
    return opened((opener)REAL(openat), AT_FDCWD, path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    MODE(flags)
    return opened((opener)REAL(openat64), AT_FDCWD, path, flags, mode);
}
int openat(int at, const char *path, int flags, ...) {
    MODE(flags)
    return opened((opener)REAL(openat), at, path, flags, mode);
}
int openat64(int at, const char *path, int flags, ...) {
    MODE(flags)
    return opened((opener)REAL(openat64), at, path, flags, mode);
}

int close(int file) {
    char link[64], path[PATH_MAX];
    if (!state || file < 0 || file >= MOST_FILES || !writes[file]) return REAL(close)(file);
    writes[file] = 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, sizeof path - 1);
    int answer = REAL(close)(file);
    if (size > 0) {
        path[size] = 0;
        if (counts(path)) passed("close", path);
    }
    return answer;
}

#define REFUSE_FULL(file) \
    if (is_full() && file >= 0 && file < MOST_FILES && writes[file]) { \
        errno = ENOSPC; \
        return -1; \
    }

ssize_t write(int file, const void *data, size_t size) {
    REFUSE_FULL(file)
    return REAL(write)(file, data, size);
}
ssize_t pwrite(int file, const void *data, size_t size, off_t offset) {
    REFUSE_FULL(file)
    return REAL(pwrite)(file, data, size, offset);
}
ssize_t pwrite64(int file, const void *data, size_t size, off64_t offset) {
    REFUSE_FULL(file)
    return REAL(pwrite64)(file, data, size, offset);
}
ssize_t writev(int file, const struct iovec *parts, int count) {
    REFUSE_FULL(file)
    return REAL(writev)(file, parts, count);
}
ssize_t sendfile(int out, int in, off_t *offset, size_t count) {
    REFUSE_FULL(out)
    return ((ssize_t(*)(int, int, off_t *, size_t))dlsym(RTLD_NEXT, "sendfile"))(
        out, in, offset, count);
}
ssize_t sendfile64(int out, int in, off64_t *offset, size_t count) {
    REFUSE_FULL(out)
    return ((ssize_t(*)(int, int, off64_t *, size_t))dlsym(RTLD_NEXT, "sendfile64"))(
        out, in, offset, count);
}

static int done(int answer, const char *operation, int at, const char *path) {
    char whole[PATH_MAX];
    if (state && !answer) {
        absolute(at, path, whole);
        if (counts(whole)) passed(operation, whole);
    }
    return answer;
}

int rename(const char *from, const char *to) {
    return done(REAL(rename)(from, to), "rename", AT_FDCWD, to);
}
int renameat(int from_at, const char *from, int to_at, const char *to) {
    return done(REAL(renameat)(from_at, from, to_at, to), "rename", to_at, to);
}
int link(const char *from, const char *to) {
    return done(REAL(link)(from, to), "create", AT_FDCWD, to);
}
int linkat(int from_at, const char *from, int to_at, const char *to, int flags) {
    return done(REAL(linkat)(from_at, from, to_at, to, flags), "create", to_at, to);
}
int unlink(const char *path) { return done(REAL(unlink)(path), "remove", AT_FDCWD, path); }
int unlinkat(int at, const char *path, int flags) {
    return done(REAL(unlinkat)(at, path, flags), "remove", at, path);
}
int rmdir(const char *path) { return done(REAL(rmdir)(path), "remove", AT_FDCWD, path); }
int mkdir(const char *path, mode_t mode) {
    return done(REAL(mkdir)(path, mode), "create", AT_FDCWD, path);
}
int mkdirat(int at, const char *path, mode_t mode) {
    return done(REAL(mkdirat)(at, path, mode), "create", at, path);
}
