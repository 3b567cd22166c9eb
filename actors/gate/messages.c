/* The gate's messages and metrics, declared. */
#include "actors/gate/messages.h"

#include <stdio.h>
#include <stdlib.h>

#include "actors/gate/frames.h"
#include "actors/gate/gate.h"
#include "runtime/base/metrics.h"

MSG_FOLDER_DEFINE(gate, GATE_MESSAGES);

struct gate_metrics gate_metrics;

static const char *const gate_pin_names[] = {
#define FRAMES_PIN_TEXT(name, text) text,
	FRAMES_PIN_LIST(FRAMES_PIN_TEXT)
#undef FRAMES_PIN_TEXT
};

const char *gate_pin_name(unsigned bit)
{
	if (bit < SQLCLASS_REASONS)
		return sqlclass_reason_name(bit);
	bit -= SQLCLASS_REASONS;
	return bit < ARRAY_LEN(gate_pin_names) ? gate_pin_names[bit] : "unknown";
}

static void declare_pins(struct gate_metrics *g)
{
	static char labels[GATE_PINS_MAX][64];

	for (unsigned i = 0; i < FRAMES_PINS; i++) {
		snprintf(labels[i], sizeof(labels[i]), "reason=\"%s\"", gate_pin_name(i));
		g->pins[i] = metric_declare("multigres_gate_pins_total",
			"Sessions that keep their backend, by the first time each reason was seen",
			METRIC_COUNTER, labels[i]);
	}
}

void gate_metrics_declare(void)
{
	struct gate_metrics *g = &gate_metrics;

#define COUNTER(member, name, help) g->member = metric_declare(name, help, METRIC_COUNTER, NULL)
	g->clients = metric_declare("multigres_gate_clients", "Clients connected now", METRIC_GAUGE, NULL);
	COUNTER(accepted, "multigres_gate_connections_total", "Connections taken");
	COUNTER(refused, "multigres_gate_connections_refused_total", "Connections refused: too many clients");
	COUNTER(logins, "multigres_gate_logins_total", "Logins that succeeded");
	COUNTER(login_failures, "multigres_gate_login_failures_total", "Logins that failed, for any reason");
	COUNTER(cancels, "multigres_gate_cancels_total", "Cancel requests with a right key");
	COUNTER(violations, "multigres_gate_protocol_violations_total",
		"Clients closed for breaking the protocol");
	COUNTER(queries, "multigres_gate_queries_total", "Queries and extended batches sent on");
	COUNTER(waits, "multigres_gate_waits_total", "Requests that waited for a backend");
	COUNTER(lost, "multigres_gate_backends_lost_total", "Sessions whose backend was lost");
	COUNTER(bytes_in, "multigres_gate_client_received_bytes_total", "Bytes from clients after login");
	COUNTER(bytes_out, "multigres_gate_client_sent_bytes_total", "Bytes to clients after login");
#undef COUNTER
	g->query_us = metric_declare("multigres_gate_query_microseconds",
		"From a request's arrival until all it called for was answered", METRIC_HISTOGRAM, NULL);
	g->wait_us = metric_declare("multigres_gate_wait_microseconds",
		"How long requests waited for a backend", METRIC_HISTOGRAM, NULL);
	declare_pins(g);
}
