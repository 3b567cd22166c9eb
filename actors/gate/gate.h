/*
 * The gate's outside: what a program says to start one, and what it counts.
 *
 * One listener actor a worker, named "gate.<worker>", takes clients and gives each a session actor. A session needs
 * the pool actor "pool.<worker>" and, to check passwords, the actor "tablet" (actors/tablet/messages.h).
 */
#ifndef ACTORS_GATE_GATE_H
#define ACTORS_GATE_GATE_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/core/actor.h"

enum gate_auth {
	GATE_TRUST, /* whoever comes is who he says he is; Postgres decides when the pool logs in */
	GATE_SCRAM, /* SCRAM-SHA-256 against the verifiers of Postgres */
};

enum {
	GATE_LOGIN_TIMEOUT_MS = 60000, /* Postgres's authentication_timeout */
	GATE_QUEUE_TIMEOUT_MS = 30000,
	GATE_CLIENTS_MAX = 10000,
};

/* Borrowed for the node's life, as are its strings. A zero in a number means the default above. */
struct gate_config {
	const char *listen; /* as struct io_listen's address */
	bool reuse_port;
	enum gate_auth auth;
	const char *tls_cert, *tls_key; /* both NULL: SSLRequest is answered with N */
	const char *tls_ca; /* clients' certificates must be of it; NULL: none asked for */
	bool tls_required; /* sessions without TLS are refused */
	uint32_t max_clients; /* of the node; each worker admits its share of it */
	uint32_t login_timeout_ms;
	uint32_t queue_timeout_ms; /* how long a request waits for a backend */
	uint8_t mock_secret[32]; /* random, the same for all gates of a cluster: see scram_verifier_mock */
};

/* args: a `const struct gate_config *` (the pointer). Fails when it can't listen; the reason is in the log. */
extern const struct behaviour listener_behaviour;
extern const struct behaviour session_behaviour;

/* Names of all pin reasons, SQL's and the gate's (frames.h); "unknown" beyond. */
const char *gate_pin_name(unsigned bit);

enum { GATE_PINS_MAX = 32 };

struct gate_metrics {
	uint32_t clients, accepted, refused, logins, login_failures, cancels, violations;
	uint32_t queries, waits, lost, bytes_in, bytes_out;
	uint32_t query_us, wait_us;
	uint32_t pins[GATE_PINS_MAX];
};

/* Ids of the gate's metrics; written once by gate_metrics_declare, before workers start. */
extern struct gate_metrics gate_metrics;
void gate_metrics_declare(void);

#endif
