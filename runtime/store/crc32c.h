/* CRC-32C (Castagnoli; RFC 3720 appendix B.4): what guards each record on disk. */
#ifndef RUNTIME_STORE_CRC32C_H
#define RUNTIME_STORE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Start with crc 0; feed the result back in to go on with more bytes. */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t n);

#endif
