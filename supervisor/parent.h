/* The watchdog parent of a node: starts it, restarts it when it crashes, stops it when asked, ends with its code. */
#ifndef SUPERVISOR_PARENT_H
#define SUPERVISOR_PARENT_H

#include <stdint.h>

/* How a node's process ends. Anything else, and every signal, is a crash: it is started again. */
enum node_exit {
	NODE_STOPPED = 0, /* told to stop, all is down */
	NODE_FAILED = 1, /* couldn't start; restarting won't mend it, unless it has served before */
	NODE_USAGE = 2, /* a bad flag or setting */
	NODE_RESTART = 3, /* its supervision tree gave up: start it afresh */
};

struct parent_spec {
	char *const *argv; /* of the child, NULL-terminated; run as /proc/self/exe */
	int notify_fd, child_fd; /* a pipe: the child writes lines into child_fd: "ready URL", "stopping" */
	const char *crash_dir; /* where the node leaves its crash reports, for the last words */
	uint32_t stop_ms; /* for the child to end after SIGTERM, before it is killed */
};

/* Runs until the child ended for good; gives the exit code. One thread, no libraries, nothing to go wrong. */
int parent_run(const struct parent_spec *spec);

#endif
