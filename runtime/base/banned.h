/*
 * Functions nobody here calls: each has cost somebody a CVE or a simulation its determinism. Included by the
 * compiler's command line in every file of ours; a use is a compile error.
 */
#ifndef RUNTIME_BASE_BANNED_H
#define RUNTIME_BASE_BANNED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#pragma GCC poison strcpy strcat sprintf vsprintf gets strtok strncpy strncat
#pragma GCC poison tmpnam mktemp

#endif
