/* A disk and a clock that fail when told, preloaded into one process (reliability.md §2 "disks").
 *
 * QHRONOS_DISK_UNDER   only files whose path begins so are touched
 * QHRONOS_DISK_SWITCH  while <switch>.full exists no such file grows (ENOSPC); while <switch>.fsync exists no sync
 *                      succeeds (EIO)
 * QHRONOS_DISK_KEPT    a directory: at each sync that succeeds the file is copied there, as what a power cut would leave
 * QHRONOS_CLOCK        a file with a number of seconds that is added to the wall clock; monotonic time stays true
 *
 * And for a process that forks its victims: `disk_under`, `disk_keeps`, `disk_dies_at` (the nth write, truncation or sync: the process
 * is killed there, half the write done), `disk_fails` (calls from the one to the other fail: no room, no sync) and
 * `disk_calls`.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const char *under, *kept, *clock_file;
static char full[PATH_MAX], broken[PATH_MAX];
static long dies_at, fails_from, fails_until;
static atomic_long calls;

void disk_under(const char *path) {
  under = strdup(path);
  calls = 0;
}
void disk_keeps(const char *path) { kept = strdup(path); }
void disk_dies_at(long number) { dies_at = number; }
void disk_fails(long from, long until) {
  fails_from = from;
  fails_until = until;
}
long disk_calls(void) { return calls; }

__attribute__((constructor)) static void begin(void) {
  const char *at_switch = getenv("QHRONOS_DISK_SWITCH");
  under = getenv("QHRONOS_DISK_UNDER");
  kept = getenv("QHRONOS_DISK_KEPT");
  clock_file = getenv("QHRONOS_CLOCK");
  if (at_switch) {
    snprintf(full, sizeof full, "%s.full", at_switch);
    snprintf(broken, sizeof broken, "%s.fsync", at_switch);
  }
}

/* The path of an open file of ours, else NULL. Shared memory is no disk. */
static const char *ours(int fd, char *path) {
  char link[64];
  if (!under) return NULL;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, PATH_MAX - 1);
  if (length < 0) return NULL;
  path[length] = 0;
  if (strncmp(path, under, strlen(under)) != 0) return NULL;
  return length > 4 && strcmp(path + length - 4, "-shm") == 0 ? NULL : path;
}

static int on(const char *flag) { return flag[0] && access(flag, F_OK) == 0; }

/* One more call: the process dies here, or the call fails, or neither. */
enum { WELL, FAILS, DIES };
static int fate(void) {
  long number = atomic_fetch_add(&calls, 1) + 1;
  if (number == dies_at) return DIES;
  return number >= fails_from && number < fails_until ? FAILS : WELL;
}

static void die(void) { kill(getpid(), SIGKILL); }

static ssize_t written(int fd, const void *data, size_t size, off_t at) {
  char path[PATH_MAX];
  if (ours(fd, path)) {
    struct stat now;
    int becomes = fate();
    if (becomes == DIES) {
      syscall(SYS_pwrite64, fd, data, size / 2, at);
      die();
    }
    if (becomes == FAILS || (on(full) && fstat(fd, &now) == 0 && at + (off_t)size > now.st_size)) {
      errno = ENOSPC;
      return -1;
    }
  }
  return syscall(SYS_pwrite64, fd, data, size, at);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return written(fd, data, size, at); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { return written(fd, data, size, at); }

/* SQLite may be built to seek and then write. */
ssize_t write(int fd, const void *data, size_t size) {
  char path[PATH_MAX];
  off_t at;
  if (!under || !ours(fd, path) || (at = (off_t)syscall(SYS_lseek, fd, 0, SEEK_CUR)) < 0)
    return syscall(SYS_write, fd, data, size);
  ssize_t done = written(fd, data, size, at);
  if (done > 0) syscall(SYS_lseek, fd, at + done, SEEK_SET);
  return done;
}

static int truncated(int fd, off_t size) {
  char path[PATH_MAX];
  if (ours(fd, path) && fate() == DIES) die();
  return (int)syscall(SYS_ftruncate, fd, size);
}

int ftruncate(int fd, off_t size) { return truncated(fd, size); }
int ftruncate64(int fd, off64_t size) { return truncated(fd, size); }

static void keep(int fd, const char *path) {
  char target[PATH_MAX], piece[65536];
  ssize_t read_;
  off_t at = 0;
  const char *name = strrchr(path, '/');
  snprintf(target, sizeof target, "%s%s", kept, name);
  int to = (int)syscall(SYS_openat, AT_FDCWD, target, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  while ((read_ = pread(fd, piece, sizeof piece, at)) > 0) {
    syscall(SYS_pwrite64, to, piece, read_, at);
    at += read_;
  }
  syscall(SYS_close, to);
}

/* A directory that is synced has let go of the files that were removed from it. */
static void let_go(const char *path) {
  char real[2 * PATH_MAX], target[2 * PATH_MAX];
  DIR *shadow = opendir(kept);
  struct dirent *entry;
  while (shadow && (entry = readdir(shadow))) {
    snprintf(real, sizeof real, "%s/%s", path, entry->d_name);
    snprintf(target, sizeof target, "%s/%s", kept, entry->d_name);
    if (entry->d_name[0] != '.' && access(real, F_OK) != 0) unlink(target);
  }
  if (shadow) closedir(shadow);
}

static int synced(int fd, long call) {
  char path[PATH_MAX];
  if (ours(fd, path)) {
    int becomes = fate();
    if (becomes == DIES) die();
    if (becomes == FAILS || on(broken)) {
      errno = EIO;
      return -1;
    }
    int done = (int)syscall(call, fd);
    struct stat what;
    if (done == 0 && kept && fstat(fd, &what) == 0) {
      if (S_ISREG(what.st_mode)) keep(fd, path);
      if (S_ISDIR(what.st_mode)) let_go(path);
    }
    return done;
  }
  return (int)syscall(call, fd);
}

int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

static long shift(void) {
  char text[32] = "";
  if (!clock_file) return 0;
  int fd = (int)syscall(SYS_openat, AT_FDCWD, clock_file, O_RDONLY);
  if (fd < 0) return 0;
  syscall(SYS_read, fd, text, sizeof text - 1);
  syscall(SYS_close, fd);
  return atol(text);
}

int clock_gettime(clockid_t which, struct timespec *now) {
  int done = (int)syscall(SYS_clock_gettime, which, now);
  if (done == 0 && clock_file && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) now->tv_sec += shift();
  return done;
}

int gettimeofday(struct timeval *now, void *zone) {
  int done = (int)syscall(SYS_gettimeofday, now, zone);
  if (done == 0 && clock_file) now->tv_sec += shift();
  return done;
}

time_t time(time_t *out) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (out) *out = now.tv_sec;
  return now.tv_sec;
}
