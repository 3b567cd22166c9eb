/*
 * Postgres's errors and notices: the fields of ErrorResponse and NoticeResponse (manual, "Error and Notice Message
 * Fields"), and the SQLSTATEs a proxy itself gives or must know (names as in Postgres's errcodes.txt).
 */
#ifndef ACTORS_PG_PGERROR_H
#define ACTORS_PG_PGERROR_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/buf.h"
#include "runtime/base/status.h"

/* Field code, member, in the order in which Postgres sends them. */
#define PGERROR_FIELD_LIST(F)                                                                                \
	F('S', severity) /* may be translated */                                                             \
	F('V', severity_raw) /* never translated: ERROR FATAL PANIC WARNING NOTICE DEBUG INFO LOG */         \
	F('C', sqlstate)                                                                                     \
	F('M', message)                                                                                      \
	F('D', detail)                                                                                       \
	F('H', hint)                                                                                         \
	F('P', position)                                                                                     \
	F('p', internal_position)                                                                            \
	F('q', internal_query)                                                                               \
	F('W', context)                                                                                      \
	F('s', schema)                                                                                       \
	F('t', table)                                                                                        \
	F('c', column)                                                                                       \
	F('d', datatype)                                                                                     \
	F('n', constraint)                                                                                   \
	F('F', file)                                                                                         \
	F('L', line)                                                                                         \
	F('R', routine)

/* NULL: the field is absent. The strings are borrowed: from a message's body, a struct error, or literals. */
struct pgerror {
#define PGERROR_MEMBER(code, member) const char *member;
	PGERROR_FIELD_LIST(PGERROR_MEMBER)
#undef PGERROR_MEMBER
};

#define PGERROR_SQLSTATE_LIST(E)                                                                             \
	E(SUCCESSFUL_COMPLETION, "00000")                                                                    \
	E(WARNING, "01000")                                                                                  \
	E(CONNECTION_EXCEPTION, "08000")                                                                     \
	E(SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION, "08001")                                              \
	E(CONNECTION_DOES_NOT_EXIST, "08003")                                                                \
	E(SQLSERVER_REJECTED_ESTABLISHMENT_OF_SQLCONNECTION, "08004")                                        \
	E(CONNECTION_FAILURE, "08006")                                                                       \
	E(TRANSACTION_RESOLUTION_UNKNOWN, "08007")                                                           \
	E(PROTOCOL_VIOLATION, "08P01")                                                                       \
	E(FEATURE_NOT_SUPPORTED, "0A000")                                                                    \
	E(INVALID_PARAMETER_VALUE, "22023")                                                                  \
	E(ACTIVE_SQL_TRANSACTION, "25001")                                                                   \
	E(READ_ONLY_SQL_TRANSACTION, "25006")                                                                \
	E(NO_ACTIVE_SQL_TRANSACTION, "25P01")                                                                \
	E(IN_FAILED_SQL_TRANSACTION, "25P02")                                                                \
	E(INVALID_SQL_STATEMENT_NAME, "26000")                                                               \
	E(INVALID_AUTHORIZATION_SPECIFICATION, "28000")                                                      \
	E(INVALID_PASSWORD, "28P01")                                                                         \
	E(INVALID_CURSOR_NAME, "34000")                                                                      \
	E(INVALID_CATALOG_NAME, "3D000")                                                                     \
	E(T_R_SERIALIZATION_FAILURE, "40001")                                                                \
	E(T_R_STATEMENT_COMPLETION_UNKNOWN, "40003")                                                         \
	E(T_R_DEADLOCK_DETECTED, "40P01")                                                                    \
	E(SYNTAX_ERROR, "42601")                                                                             \
	E(INSUFFICIENT_PRIVILEGE, "42501")                                                                   \
	E(UNDEFINED_OBJECT, "42704")                                                                         \
	E(UNDEFINED_TABLE, "42P01")                                                                          \
	E(DUPLICATE_PSTATEMENT, "42P05")                                                                     \
	E(INSUFFICIENT_RESOURCES, "53000")                                                                   \
	E(OUT_OF_MEMORY, "53200")                                                                            \
	E(TOO_MANY_CONNECTIONS, "53300")                                                                     \
	E(CONFIGURATION_LIMIT_EXCEEDED, "53400")                                                             \
	E(PROGRAM_LIMIT_EXCEEDED, "54000")                                                                   \
	E(STATEMENT_TOO_COMPLEX, "54001")                                                                    \
	E(OBJECT_NOT_IN_PREREQUISITE_STATE, "55000")                                                         \
	E(CANT_CHANGE_RUNTIME_PARAM, "55P02")                                                                \
	E(LOCK_NOT_AVAILABLE, "55P03")                                                                       \
	E(QUERY_CANCELED, "57014")                                                                           \
	E(ADMIN_SHUTDOWN, "57P01")                                                                           \
	E(CRASH_SHUTDOWN, "57P02")                                                                           \
	E(CANNOT_CONNECT_NOW, "57P03")                                                                       \
	E(IDLE_SESSION_TIMEOUT, "57P05")                                                                     \
	E(IO_ERROR, "58030")                                                                                 \
	E(CONFIG_FILE_ERROR, "F0000")                                                                        \
	E(INTERNAL_ERROR, "XX000")                                                                           \
	E(DATA_CORRUPTED, "XX001")

/* SQLSTATE_PROTOCOL_VIOLATION and so on: five characters and NUL. */
#define PGERROR_STATE(name, code) extern const char SQLSTATE_##name[6];
PGERROR_SQLSTATE_LIST(PGERROR_STATE)
#undef PGERROR_STATE

/* The name as in the list ("PROTOCOL_VIOLATION"), or "UNKNOWN". Never NULL. For logs and metrics. */
const char *pgerror_state_name(const char *sqlstate);

/*
 * Reads the body (without header) of an ErrorResponse or NoticeResponse. E_PROTOCOL when a string or the final NUL is
 * missing, or a message has no SQLSTATE of five characters or no text. Fields of unknown code are skipped, as the
 * manual demands. The strings borrow the body.
 */
MUST_CHECK enum status pgerror_read(const uint8_t *body, uint32_t n, struct pgerror *out);

/* Appends an ErrorResponse or NoticeResponse; absent fields are left out. A missing severity is "ERROR"/"NOTICE". */
void pgerror_put_error(struct writer *w, const struct pgerror *e);
void pgerror_put_notice(struct writer *w, const struct pgerror *e);

/* Our own error as Postgres's; borrows `err`. Severity "ERROR" (session goes on) or "FATAL" (connection ends). */
struct pgerror pgerror_from(const struct error *err, const char *severity);

/* Copies SQLSTATE, message and hint of a server's error into `err` (cut to its size), and returns `st`. */
enum status pgerror_to_error(const struct pgerror *e, enum status st, struct error *err);

/* FATAL or PANIC by its untranslated severity: the server closes the connection after it. */
bool pgerror_is_fatal(const struct pgerror *e);

/* Postgres warns that a commit is locally durable but not replicated: the outcome must be told as 08007. */
bool pgerror_is_unreplicated_commit(const struct pgerror *e);

#endif
