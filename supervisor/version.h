/* What `multigres version` says. */
#ifndef SUPERVISOR_VERSION_H
#define SUPERVISOR_VERSION_H

#define MULTIGRES_VERSION "0.1.0"

#endif
