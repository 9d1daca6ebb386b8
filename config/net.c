/* The keys of --net and what they mean for each other; see net.h. Its first word is a key as well,
 * one of two: what the host's end is. Whether there is such an interface, is for host/ to find out.
 */
#include "config/net.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "config/keys.h"
#include "config/units.h"
#include "config/values.h"
#include "core/num.h"

#define TAP_NAME_MAX 15 /* IFNAMSIZ, the NUL left out */

/* What Linux takes for a name of an interface (dev_valid_name; its isspace counts 0xa0 in), but no
 * pattern, whose number the kernel would choose. */
static int set_tap(const struct config_option *o, const char *text, void *field, struct err *e)
{
    size_t n = strcspn(text, "/%: \t\n\v\f\r\xa0");

    if (strlen(text) > TAP_NAME_MAX)
        return config_option_err(o, e, "\"%.60s\" is longer than %d bytes", text, TAP_NAME_MAX);
    if (text[n] || strcmp(text, ".") == 0 || strcmp(text, "..") == 0)
        return config_option_err(o, e, "\"%.60s\" can't be the name of an interface", text);
    *(const char **)field = text;
    return 0;
}

/* The value of a digit of base 16, or -1. */
static int hex_digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *p = c ? strchr(digits, c >= 'A' && c <= 'F' ? c + ('a' - 'A') : c) : NULL;

    return p ? (int)(p - digits) : -1;
}

/* Six bytes of two digits each, parted by colons. False: text is not of that form. */
static bool mac_read(const char *text, uint8_t mac[6])
{
    for (unsigned i = 0; i < 6; i++, text += 3) {
        int high = hex_digit(text[0]), low = high < 0 ? -1 : hex_digit(text[1]);

        if (low < 0 || text[2] != (i < 5 ? ':' : '\0'))
            return false;
        mac[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static int set_mac(const struct config_option *o, const char *text, void *field, struct err *e)
{
    static const uint8_t zero[6];
    struct config_net *net = field;
    uint8_t mac[6];

    if (!mac_read(text, mac))
        return config_option_err(o, e, "\"%.60s\" is not six bytes in hexadecimal", text);
    if (mac[0] & 1)
        return config_option_err(o, e, "%s is the address of a group", text);
    if (memcmp(mac, zero, sizeof mac) == 0)
        return config_option_err(o, e, "%s is nobody's address", text);
    memcpy(net->mac, mac, sizeof mac);
    net->mac_given = true;
    return 0;
}

static int set_rx_bw(const struct config_option *o, const char *text, void *field, struct err *e)
{
    struct config_net *net = field;

    return value_rate(o, text, units_bytes, &net->rx_bw, &net->rx_bw_burst, e);
}

static int set_tx_bw(const struct config_option *o, const char *text, void *field, struct err *e)
{
    struct config_net *net = field;

    return value_rate(o, text, units_bytes, &net->tx_bw, &net->tx_bw_burst, e);
}

static int set_rx_pps(const struct config_option *o, const char *text, void *field, struct err *e)
{
    struct config_net *net = field;

    return value_rate(o, text, units_number, &net->rx_pps, &net->rx_pps_burst, e);
}

static int set_tx_pps(const struct config_option *o, const char *text, void *field, struct err *e)
{
    struct config_net *net = field;

    return value_rate(o, text, units_number, &net->tx_pps, &net->tx_pps_burst, e);
}

#define FIELD(f)      .offset = offsetof(struct config_net, f), .flags = OPTION_KEY
#define WHOLE_ELEMENT .offset = 0

/* clang-format off */
/* The first word, which is one of these. */
static const struct config_option ends[] = {
    { .name = "tap", .metavar = "NAME",
      .hint = "name an interface by 1 to 15 bytes without blanks, '/', '%' and ':', as in tap=tap0",
      FIELD(tap), .set = set_tap },
    { .name = "fd", .metavar = "N", .min = "3", .max = "2147483647",
      .hint = "give a descriptor of a tap that the caller opened, as in fd=3",
      FIELD(fd), .set = value_number },
};

/* Of the bounds of rates see disk.c. */
const struct config_option config_net_keys[CONFIG_NET_KEYS] = {
    { .name = "mac", .metavar = "MAC",
      .hint = "give the address of one host, as in mac=52:54:00:12:34:56, or leave it out for one "
              "made of the interface's name",
      WHOLE_ELEMENT, .set = set_mac, .flags = OPTION_KEY },
    { .name = "mtu", .metavar = "N", .min = "68", .max = "65535",
      .hint = "give the largest packet's bytes, as in mtu=1400, or leave it out for the interface's",
      FIELD(mtu), .set = value_number },
    { .name = "queues", .metavar = "N", .min = "1", .max = "16", .preset = "1",
      .hint = "give how many of the vCPUs have a pair of queues of their own, as in queues=2",
      FIELD(queues), .set = value_number },
    { .name = "vhost", .metavar = "WAY", .words = "off|on", .preset = "off",
      .hint = "give on to have the host's kernel move the frames, or leave it out",
      FIELD(vhost), .set = value_choice },
    { .name = "rx-bw", .metavar = "RATE[:BURST]", .min = "1", .max = "1024T",
      .hint = "give bytes a second, as in rx-bw=100M or rx-bw=100M:1G, or leave it out for no "
              "limit",
      WHOLE_ELEMENT, .set = set_rx_bw, .flags = OPTION_KEY },
    { .name = "tx-bw", .metavar = "RATE[:BURST]", .min = "1", .max = "1024T",
      .hint = "give bytes a second, as in tx-bw=100M or tx-bw=100M:1G, or leave it out for no "
              "limit",
      WHOLE_ELEMENT, .set = set_tx_bw, .flags = OPTION_KEY },
    { .name = "rx-pps", .metavar = "RATE[:BURST]", .min = "1", .max = "1125899906842624",
      .hint = "give frames a second, as in rx-pps=5000 or rx-pps=5000:50000, or leave it out for "
              "no limit",
      WHOLE_ELEMENT, .set = set_rx_pps, .flags = OPTION_KEY },
    { .name = "tx-pps", .metavar = "RATE[:BURST]", .min = "1", .max = "1125899906842624",
      .hint = "give frames a second, as in tx-pps=5000 or tx-pps=5000:50000, or leave it out for "
              "no limit",
      WHOLE_ELEMENT, .set = set_tx_pps, .flags = OPTION_KEY },
};
/* clang-format on */

_Static_assert(sizeof(enum config_switch) == sizeof(unsigned), "value_choice writes an unsigned");

static int set_end(const struct config_option *o, const char *word, struct config_net *net,
                   struct err *e)
{
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        const struct config_option *k = &ends[i];
        const char *value = word + strlen(k->name) + 1;

        if (strncmp(word, k->name, strlen(k->name)) != 0 || value[-1] != '=')
            continue;
        int ret = *value ? k->set(k, value, (char *)net + k->offset, e)
                         : config_option_err(k, e, "empty");

        if (ret) {
            struct err key = *e;

            return err_set(e, EINVAL, "option --%s: %s", o->name, key.msg);
        }
        return 0;
    }
    return config_option_err(o, e, "\"%.60s\" begins with neither tap= nor fd=", word);
}

/* The first word again, for errors. */
static const char *end_name(const struct config_net *net, char buf[32])
{
    if (net->tap)
        snprintf(buf, 32, "tap=%.15s", net->tap);
    else
        snprintf(buf, 32, "fd=%d", net->fd);
    return buf;
}

/* What the keys of one net mean for each other. */
static int check_keys(const struct config_net *net, struct err *e)
{
    char name[32];

    if (!net->tap && net->queues > 1)
        return err_set(e, EINVAL,
                       "option --net: %s: queues: a descriptor is one queue, not %d: name the tap "
                       "for more, as in tap=tap0",
                       end_name(net, name), net->queues);
    if (net->vhost == CONFIG_ON && (net->rx_bw || net->tx_bw || net->rx_pps || net->tx_pps))
        return err_set(e, EINVAL,
                       "option --net: %s: vhost=on and a rate: the host's kernel moves the frames "
                       "and knows no limit: leave one out",
                       end_name(net, name));
    return 0;
}

int config_net_set(const struct config_option *o, const char *text, void *field, struct err *e)
{
    struct config_nets *list = field;
    struct config_words words;

    if (list->n == CONFIG_NET_MAX)
        return err_set(e, EINVAL, "option --%s: more than %d given: leave the others out", o->name,
                       CONFIG_NET_MAX);
    struct config_net *net = &list->net[list->n];
    int ret = config_keys_split(o, text, &list->texts, &words, e);

    if (ret)
        return ret;
    *net = (struct config_net){ .fd = -1 };
    ret = set_end(o, words.name, net, e);
    if (ret == 0)
        ret = config_keys_set(o, &words, net, e);
    if (ret == 0)
        ret = check_keys(net, e);
    if (ret == 0)
        list->n++;
    return ret;
}

/* What two nets do not share. */
static int check_two(const struct config_net *a, const struct config_net *b, struct err *e)
{
    char name[32], other[32];

    if (a->tap && b->tap ? strcmp(a->tap, b->tap) == 0 : a->fd == b->fd)
        return err_set(e, EINVAL,
                       "option --net: %s: given twice: two devices would get each other's frames: "
                       "give each a tap of its own",
                       end_name(a, name));
    if (a->mac_given && b->mac_given && memcmp(a->mac, b->mac, sizeof a->mac) == 0)
        return err_set(e, EINVAL,
                       "option --net: %s: mac: the address is that of %s, too: give each one of "
                       "its own",
                       end_name(a, name), end_name(b, other));
    return 0;
}

int config_nets_check(const struct config *c, struct err *e)
{
    char name[32];

    for (unsigned i = 0; i < c->nets.n; i++) {
        const struct config_net *net = &c->nets.net[i];

        if (net->queues > c->cpus)
            return err_set(e, EINVAL,
                           "option --net: %s: queues: %d is more than the %d of --cpus: a pair "
                           "serves at least one vCPU, give at most queues=%d",
                           end_name(net, name), net->queues, c->cpus, c->cpus);
        if (net->fd >= 0 && net->fd == c->ready_fd)
            return err_set(e, EINVAL,
                           "option --net: %s: is that of --ready-fd, too, which is closed: give "
                           "each a descriptor of its own",
                           end_name(net, name));
        for (unsigned j = 0; j < i; j++) {
            int ret = check_two(net, &c->nets.net[j], e);

            if (ret)
                return ret;
        }
    }
    return 0;
}
