/* What a client is told when its backend is gone: see lost.h. Pure. */
#include "actors/gate/lost.h"

struct lost_verdict lost_decide(const struct lost_facts *f)
{
	struct lost_verdict v = {0};

	v.unknown = f->sent && f->may_commit && f->outstanding > 0;
	v.close = f->answering || f->in_batch || f->in_transaction || f->pinned || f->outstanding == 0;
	return v;
}
