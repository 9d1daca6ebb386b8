/* The help text, made from the table of options. */
#ifndef MAYFLY_CONFIG_HELP_H
#define MAYFLY_CONFIG_HELP_H

#include <stdio.h>

/* Writes one screen: at most 50 lines of at most 80 columns. The caller checks out for errors. */
void config_help(FILE *out);

#endif
