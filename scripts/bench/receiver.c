/* A receiver that is never the limit: answers every POST with 200 and writes down when it came and what instant its body
 * names ("scheduled_at"). One thread, epoll, HTTP/1.1 with keep-alive and Content-Length only.
 *   GET /count     how many POSTs came
 *   GET /arrivals  a line for each: microseconds since 1970, a space, the instant as the body has it
 *   GET /reset     forget them
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#define ROOM 65536
#define CONNECTIONS 8192

struct connection { size_t held; char bytes[ROOM]; };
struct arrival { int64_t at; char instant[40]; };

static struct connection *connections[CONNECTIONS];
static struct arrival *arrivals;
static size_t count, space;

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void write_all(int fd, const char *bytes, size_t length) {
  while (length) {
    ssize_t written = write(fd, bytes, length);
    if (written < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (written < 0) return;
    bytes += written;
    length -= written;
  }
}

static void answer(int fd, const char *body, size_t length) {
  char head[128];
  int n = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", length);
  write_all(fd, head, n);
  write_all(fd, body, length);
}

static void remember(const char *body, size_t length) {
  static const char key[] = "\"scheduled_at\":\"";
  if (count == space) arrivals = realloc(arrivals, (space = space ? space * 2 : 16384) * sizeof *arrivals);
  struct arrival *one = &arrivals[count++];
  one->at = now();
  one->instant[0] = 0;
  const char *found = memmem(body, length, key, sizeof key - 1);
  if (!found) return;
  found += sizeof key - 1;
  size_t n = 0;
  while (found + n < body + length && found[n] != '"' && n < sizeof one->instant - 1) n++;
  memcpy(one->instant, found, n);
  one->instant[n] = 0;
}

static void tell(int fd) {
  char *text = malloc(count * 64 + 1);
  size_t n = 0;
  for (size_t i = 0; i < count; i++) n += sprintf(text + n, "%lld %s\n", (long long)arrivals[i].at, arrivals[i].instant);
  answer(fd, text, n);
  free(text);
}

static void serve(int fd, struct connection *c) {
  for (;;) {
    c->bytes[c->held] = 0;
    char *end = memmem(c->bytes, c->held, "\r\n\r\n", 4);
    if (!end) return;
    size_t head = end + 4 - c->bytes, length = 0;
    *end = 0;
    char *said = strcasestr(c->bytes, "\r\ncontent-length:");
    if (said) length = strtoul(said + 17, NULL, 10);
    *end = '\r';
    if (c->held < head + length) return;
    if (!strncmp(c->bytes, "POST ", 5)) {
      remember(c->bytes + head, length);
      write_all(fd, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 38);
    } else if (!strncmp(c->bytes, "GET /count", 10)) {
      char text[32];
      answer(fd, text, sprintf(text, "%zu", count));
    } else if (!strncmp(c->bytes, "GET /arrivals", 13)) {
      tell(fd);
    } else {
      if (!strncmp(c->bytes, "GET /reset", 10)) count = 0;
      answer(fd, "", 0);
    }
    c->held -= head + length;
    memmove(c->bytes, c->bytes + head + length, c->held);
  }
}

int main(void) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  signal(SIGPIPE, SIG_IGN);
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), poll = epoll_create1(0), one = 1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 4096)) return 1;
  getsockname(listener, (struct sockaddr *)&address, &size);
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
  epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
  for (;;) {
    int ready = epoll_wait(poll, events, 256, -1);
    for (int i = 0; i < ready; i++) {
      int fd = events[i].data.fd;
      if (fd == listener) {
        int made;
        while ((made = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
          if (made >= CONNECTIONS) { close(made); continue; }
          setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
          connections[made] = calloc(1, sizeof **connections);
          struct epoll_event its = {.events = EPOLLIN, .data.fd = made};
          epoll_ctl(poll, EPOLL_CTL_ADD, made, &its);
        }
        continue;
      }
      struct connection *c = connections[fd];
      ssize_t got = read(fd, c->bytes + c->held, ROOM - 1 - c->held);
      if (got <= 0 && !(got < 0 && errno == EAGAIN)) {
        close(fd);
        free(c);
        connections[fd] = NULL;
        continue;
      }
      if (got > 0) { c->held += got; serve(fd, c); }
    }
  }
}
