/* The command line, read by the table of options. */
#ifndef MAYFLY_CONFIG_ARGS_H
#define MAYFLY_CONFIG_ARGS_H

#include "config/config.h"
#include "core/err.h"

/* Parses `mayfly COMMAND [OPTION...]` (argv[0] is skipped) into *c, defaults included, and checks
 * it. 0, or -EINVAL with *e, for which the program ends with status 125. --help and --version end
 * the parse: then c->command says so and nothing else was checked. c keeps pointers into argv. */
int config_from_args(struct config *c, int argc, char *const argv[], struct err *e);

#endif
