/* The calls of io.h, handed to the driver. */
#include "runtime/core/io.h"

#include "runtime/core/internal.h"

#define DRIVER(self) ((self)->worker->driver)
#define OPS(self) (DRIVER(self)->ops)

enum status io_listen(struct actor *self, const struct io_listen *spec, uint64_t *io, struct error *err)
{
	return OPS(self)->listen(DRIVER(self), self, spec, io, err);
}

enum status io_connect(struct actor *self, const char *address, uint32_t timeout_ms, uint64_t *io)
{
	return OPS(self)->connect(DRIVER(self), self, address, timeout_ms, io);
}

enum status io_give(struct actor *self, uint64_t io, struct pid to)
{
	return OPS(self)->give(DRIVER(self), self, io, to);
}

void io_credit(struct actor *self, uint64_t io, uint32_t n)
{
	OPS(self)->credit(DRIVER(self), self, io, n);
}

enum status io_write(struct actor *self, uint64_t io, struct slice *bytes)
{
	return OPS(self)->write(DRIVER(self), self, io, bytes);
}

enum status io_write_copy(struct actor *self, uint64_t io, const void *bytes, uint32_t len)
{
	struct slice s = slice_copy(bytes, len);

	return OPS(self)->write(DRIVER(self), self, io, &s);
}

uint32_t io_queued(struct actor *self, uint64_t io)
{
	return OPS(self)->queued(DRIVER(self), self, io);
}

void io_close(struct actor *self, uint64_t io)
{
	OPS(self)->close(DRIVER(self), self, io, false);
}

void io_abort(struct actor *self, uint64_t io)
{
	OPS(self)->close(DRIVER(self), self, io, true);
}

enum status io_tls(struct actor *self, uint64_t io, const struct io_tls *spec, struct error *err)
{
	return OPS(self)->tls(DRIVER(self), self, io, spec, err);
}

enum status proc_start(struct actor *self, const struct proc_start *spec, uint64_t *proc, struct error *err)
{
	return OPS(self)->proc_start(DRIVER(self), self, spec, proc, err);
}

enum status proc_adopt(struct actor *self, int32_t os_pid, uint64_t *proc)
{
	return OPS(self)->proc_adopt(DRIVER(self), self, os_pid, proc);
}

enum status proc_signal(struct actor *self, uint64_t proc, int signal)
{
	return OPS(self)->proc_signal(DRIVER(self), self, proc, signal);
}

int32_t proc_os_pid(struct actor *self, uint64_t proc)
{
	return OPS(self)->proc_os_pid(DRIVER(self), self, proc);
}

enum status fd_watch(struct actor *self, int fd, uint8_t events, uint64_t *id)
{
	return OPS(self)->fd_watch(DRIVER(self), self, fd, events, id);
}

void fd_arm(struct actor *self, uint64_t id, uint8_t events)
{
	OPS(self)->fd_arm(DRIVER(self), self, id, events);
}

void fd_unwatch(struct actor *self, uint64_t id)
{
	OPS(self)->fd_unwatch(DRIVER(self), self, id);
}

uint64_t work_run(struct actor *self, const struct work *what)
{
	return OPS(self)->work(DRIVER(self), self, what);
}
