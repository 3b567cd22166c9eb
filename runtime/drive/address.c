/* Addresses: from text and to text. */
#include <arpa/inet.h>
#include <ctype.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/un.h>

#include "runtime/base/bytes.h"
#include "runtime/drive/socket.h"

static enum status unix_address(const char *path, struct address *out)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&out->storage;

	if (strlen(path) >= sizeof(un->sun_path))
		return E_INVALID;
	un->sun_family = AF_UNIX;
	memcpy(un->sun_path, path, strlen(path) + 1);
	out->len = sizeof(*un);
	return OK;
}

static bool port_parse(const char *text, uint16_t *port)
{
	uint32_t v = 0;

	if (!*text || strlen(text) > 5)
		return false;
	for (; *text; text++) {
		if (!isdigit((unsigned char)*text))
			return false;
		v = v * 10 + (uint32_t)(*text - '0');
	}
	*port = (uint16_t)v;
	return v <= 65535;
}

enum status address_parse(const char *text, struct address *out, char host[IO_ADDRESS_MAX], char port[8])
{
	struct sockaddr_in *in4 = (struct sockaddr_in *)&out->storage;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&out->storage;
	const char *colon = strrchr(text, ':');
	size_t len;
	uint16_t number;

	memset(out, 0, sizeof(*out));
	if (text[0] == '/')
		return unix_address(text, out);
	if (!colon || !port_parse(colon + 1, &number))
		return E_INVALID;
	len = (size_t)(colon - text);
	if (len >= 2 && text[0] == '[' && colon[-1] == ']') {
		text++;
		len -= 2;
	}
	if (len >= IO_ADDRESS_MAX)
		return E_INVALID;
	memcpy(host, text, len);
	host[len] = '\0';
	str_copy(port, 8, colon + 1);
	if (len == 0 || !strcmp(host, "*"))
		str_copy(host, IO_ADDRESS_MAX, "0.0.0.0");
	if (inet_pton(AF_INET, host, &in4->sin_addr) == 1) {
		in4->sin_family = AF_INET;
		in4->sin_port = htons(number);
		out->len = sizeof(*in4);
		return OK;
	}
	if (inet_pton(AF_INET6, host, &in6->sin6_addr) == 1) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(number);
		out->len = sizeof(*in6);
		return OK;
	}
	return E_AGAIN;
}

uint32_t address_lookup(
	const char *host, const char *port, struct address out[ADDRESSES_MAX], const char **text)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *list = NULL;
	int rc = getaddrinfo(host, port, &hints, &list);
	uint32_t n = 0;

	*text = rc ? gai_strerror(rc) : "no address";
	if (rc)
		return 0;
	for (struct addrinfo *ai = list; ai && n < ADDRESSES_MAX; ai = ai->ai_next) {
		if (ai->ai_addrlen > sizeof(out[n].storage))
			continue;
		memset(&out[n], 0, sizeof(out[n]));
		memcpy(&out[n].storage, ai->ai_addr, ai->ai_addrlen);
		out[n++].len = ai->ai_addrlen;
	}
	freeaddrinfo(list);
	return n;
}

void address_format(const struct address *a, char text[PEER_TEXT_MAX])
{
	const struct sockaddr_in *in4 = (const struct sockaddr_in *)&a->storage;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&a->storage;
	char host[INET6_ADDRSTRLEN] = "?";

	if (a->storage.ss_family == AF_INET) {
		inet_ntop(AF_INET, &in4->sin_addr, host, sizeof(host));
		snprintf(text, PEER_TEXT_MAX, "%s:%u", host, ntohs(in4->sin_port));
	} else if (a->storage.ss_family == AF_INET6) {
		inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
		snprintf(text, PEER_TEXT_MAX, "[%s]:%u", host, ntohs(in6->sin6_port));
	} else {
		str_copy(text, PEER_TEXT_MAX, "unix");
	}
}

const char *errno_text(int number, char text[128])
{
	str_copy(text, 128, strerrordesc_np(number) ? strerrordesc_np(number) : "unknown error");
	text[0] = (char)tolower((unsigned char)text[0]);
	return text;
}
