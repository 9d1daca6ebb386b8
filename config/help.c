/* See help.h. A section of the help is a run of rows that name it. */
#include "config/help.h"

#include <stdbool.h>
#include <string.h>

#include "config/options.h"

#define HELP_COLUMN 27
#define HELP_WIDTH  80

/* The keys of an option with sub-options, as they are written, below its row. */
static void help_keys(FILE *out, const struct config_option *o)
{
    int column = HELP_WIDTH;

    for (size_t i = 0; i < o->keys_n; i++) {
        const struct config_option *k = &o->keys[i];
        const char *value = k->words ? k->words : k->metavar ? k->metavar : "";
        bool optional = k->flags & OPTION_OPTIONAL, last = i == o->keys_n - 1;
        char word[64];
        int n = snprintf(word, sizeof word, "%s%s%s%s%s%s", k->name, optional ? "[" : "",
                         *value ? "=" : "", value, optional ? "]" : "", last ? "\n" : ",");

        if (column + 1 + n > HELP_WIDTH)
            column = fprintf(out, "%s%*s", i ? "\n" : "", HELP_COLUMN - 1, "");
        column += fprintf(out, " %s", word);
    }
}

static void help_row(FILE *out, const struct config_option *o)
{
    if (o->letter)
        fprintf(out, "  -%c, ", o->letter);
    else
        fputs("      ", out);
    int used = 6 + fprintf(out, "--%s%s%s", o->name, o->metavar ? " " : "",
                           o->metavar ? o->metavar : "");

    fprintf(out, "%*s%s", used < HELP_COLUMN ? HELP_COLUMN - used : 1, "", o->help);
    if (o->words)
        fprintf(out, ": %s", o->words);
    if (o->preset)
        fprintf(out, " [%s]", o->preset);
    if (o->flags & OPTION_REQUIRED)
        fputs(" (required)", out);
    if (o->flags & OPTION_REPEATABLE)
        fputs(" (repeatable)", out);
    fputc('\n', out);
    help_keys(out, o);
}

void config_help(FILE *out)
{
    const char *section = "";
    size_t n;
    const struct config_option *o = config_options(&n);

    fputs("usage: mayfly run -k FILE [OPTION...]  boot a kernel in a microVM\n"
          "       mayfly probe                    say whether this host can boot Linux\n"
          "       mayfly --help | --version\n",
          out);
    for (; n; n--, o++) {
        if (strcmp(section, o->section) != 0)
            fprintf(out, "\n%s:\n", o->section);
        section = o->section;
        help_row(out, o);
    }
    fputs("\nExit status: 0 poweroff or reboot, 70 the guest panicked, 71 it triple-faulted,\n"
          "124 --timeout, 125 Mayfly failed, 128+n signal n. All of it: man mayfly\n",
          out);
}
