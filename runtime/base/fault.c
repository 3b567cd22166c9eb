/* The fault points' names, and the hook that stays NULL outside the simulator. */
#include "runtime/base/fault.h"

#include <string.h>

bool (*fault_hook)(enum fault_point point);

#define FAULT_NAME(name) #name,
static const char *const names[] = {FAULT_LIST(FAULT_NAME)};
#undef FAULT_NAME

const char *fault_name(enum fault_point point)
{
	return (unsigned)point < FAULT_COUNT ? names[point] : NULL;
}

enum fault_point fault_parse(const char *name)
{
	for (unsigned i = 0; i < FAULT_COUNT; i++)
		if (strcmp(names[i], name) == 0)
			return (enum fault_point)i;
	return FAULT_COUNT;
}
