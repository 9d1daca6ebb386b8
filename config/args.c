/* The command line; see args.h.
 *
 * The first word that is not an option names the command. Options follow in any order, as
 * --name VALUE, --name=VALUE, -x VALUE or -xVALUE. A value may begin with a dash, as with getopt
 * (`-a '-- single'` hands arguments to init), but a word that is itself an option of ours is taken
 * for the sign of a forgotten value; --name=VALUE says otherwise.
 */
#include "config/args.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "config/near.h"
#include "config/options.h"
#include "core/num.h"

static const struct command {
    const char *name;
    enum config_command command;
} commands[] = {
    { "run", CONFIG_RUN },
    { "probe", CONFIG_PROBE },
};

/* --- Unknown words --- */

static int unknown_option(const char *word, size_t n, struct err *e)
{
    size_t rows, best = SIZE_MAX;
    const struct config_option *o = config_options(&rows), *near = NULL;
    int len = (int)min_size(n, 60);

    for (; rows; rows--, o++) {
        size_t d = near_distance(word, n, o->name);

        if (d < best) {
            best = d;
            near = o;
        }
    }
    if (near)
        return err_set(e, EINVAL, "option --%.*s: unknown: did you mean --%s?", len, word,
                       near->name);
    return err_set(e, EINVAL, "option --%.*s: unknown: mayfly --help lists the options", len, word);
}

static int take_command(struct config *c, const char *word, struct err *e)
{
    const char *near = NULL;

    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (strcmp(word, commands[i].name) == 0) {
            c->command = commands[i].command;
            return 0;
        }
        if (near_distance(word, strlen(word), commands[i].name) != SIZE_MAX)
            near = commands[i].name;
    }
    if (near)
        return err_set(e, EINVAL, "command %.60s: unknown: did you mean mayfly %s?", word, near);
    return err_set(e, EINVAL, "command %.60s: unknown: mayfly --help lists the commands", word);
}

/* --- Options --- */

/* Whether a word by itself reads as an option of ours. */
static bool is_option(const char *word)
{
    if (word[0] != '-')
        return false;
    if (word[1] == '-')
        return !word[2] || config_option_named(word + 2, strcspn(word + 2, "="));
    return config_option_lettered(word[1]) && !word[2];
}

/* Sets row o. value is what was joined to it, or NULL; then the next word, *next, may be it.
 * Returns how many further words were used, or -errno. */
static int take_option(struct config *c, const struct config_option *o, const char *value,
                       const char *next, struct err *e)
{
    int used = 0;

    if (!(o->flags & OPTION_INFO)) {
        if (c->command == CONFIG_NONE)
            return err_set(e, EINVAL, "option --%s: no command before it: write mayfly run --%s",
                           o->name, o->name);
        if (c->command != CONFIG_RUN)
            return err_set(e, EINVAL, "option --%s: not one of this command: mayfly run takes it",
                           o->name);
    }
    if (!o->metavar) {
        if (value)
            return err_set(e, EINVAL, "option --%s: takes no value: leave out \"%.60s\"", o->name,
                           value);
    } else if (!value) {
        if (!next || is_option(next))
            return config_option_err(o, e, "its value is missing");
        value = next;
        used = 1;
    }
    int ret = config_set(c, o, value, e);

    return ret ? ret : used;
}

/* One word and what belongs to it. Returns how many further words were used, or -errno. */
static int take_word(struct config *c, const char *word, const char *next, struct err *e)
{
    const struct config_option *o;

    if (word[0] != '-' || !word[1]) {
        if (c->command == CONFIG_NONE)
            return take_command(c, word, e);
        if (c->command != CONFIG_RUN)
            return err_set(e, EINVAL, "argument \"%.60s\": this command takes none: leave it out",
                           word);
        return err_set(e, EINVAL,
                       "argument \"%.60s\": not an option: a kernel is named with --kernel FILE, "
                       "an initrd with --initrd FILE",
                       word);
    }
    if (word[1] != '-') {
        o = config_option_lettered(word[1]);
        if (!o)
            return err_set(e, EINVAL, "option %.60s: unknown: mayfly --help lists the options",
                           word);
        return take_option(c, o, word[2] ? word + 2 : NULL, next, e);
    }
    if (!word[2])
        return err_set(e, EINVAL,
                       "argument --: Mayfly can't run a command in the guest yet: leave out -- "
                       "and what follows, and have the initrd start the command");
    const char *name = word + 2;
    size_t n = strcspn(name, "=");

    o = config_option_named(name, n);
    if (!o)
        return unknown_option(name, n, e);
    return take_option(c, o, name[n] ? name + n + 1 : NULL, next, e);
}

int config_from_args(struct config *c, int argc, char *const argv[], struct err *e)
{
    config_init(c);
    for (int i = 1; i < argc; i++) {
        int used = take_word(c, argv[i], i + 1 < argc ? argv[i + 1] : NULL, e);

        if (used < 0)
            return used;
        if (c->command == CONFIG_HELP || c->command == CONFIG_VERSION)
            return 0;
        i += used;
    }
    if (c->command == CONFIG_NONE)
        return err_set(e, EINVAL, "command: none given: mayfly --help lists the commands");
    return config_check(c, e);
}
