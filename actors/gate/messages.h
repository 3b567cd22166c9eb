/* What the gate's actors tell each other: the gate's public face. */
#ifndef ACTORS_GATE_MESSAGES_H
#define ACTORS_GATE_MESSAGES_H

#include "runtime/core/catalog.h"

/* listener -> session: this socket is yours (io_give has been done). admitted 0: say "too many clients", end. */
#define GATE_CLIENT_FIELDS(F, S)                                                                             \
	F(S, u64, io, 0)                                                                                     \
	F(S, u8, admitted, 0)                                                                                \
	F(S, str, peer, 63)
/* A client's CancelRequest, passed on by two listeners at most to the session that gave out the key. */
#define GATE_CANCEL_FIELDS(F, S)                                                                             \
	F(S, u32, key, 0)                                                                                    \
	F(S, bin, secret, 256)
/* session -> listener that was restarted: I live, my key is my slot. */
#define GATE_HELLO_FIELDS(F, S) F(S, u8, admitted, 0)
/* Answered with TABLE: one row of the listener's figures. */
#define GATE_SHOW_FIELDS(F, S)

#define GATE_MESSAGES(M)                                                                                     \
	M(GATE_CLIENT, gate_client, 0x1201, MSG_LOCAL)                                                       \
	M(GATE_CANCEL, gate_cancel, 0x1202, MSG_PLAIN)                                                       \
	M(GATE_HELLO, gate_hello, 0x1203, MSG_LOCAL)                                                         \
	M(GATE_SHOW, gate_show, 0x1204, MSG_ASK)

MSG_FOLDER(gate, GATE_MESSAGES);

#endif
