/* --net: its first word, its keys, its errors, and what they promise of whatever is written. */
#include "tests/unit/config_line.h"

#include "core/bucket.h"

#define NAME_MAX_LEN 15 /* of an interface */

static void assert_no_limit(const struct config_net *net)
{
    assert_false(net->rx_bw || net->rx_bw_burst || net->tx_bw || net->tx_bw_burst);
    assert_false(net->rx_pps || net->rx_pps_burst || net->tx_pps || net->tx_pps_burst);
}

/* One net with nothing said of it but its first word; tap NULL: fd. */
static void assert_plain(const struct config_net *net, const char *tap, int fd)
{
    assert_int_equal(!net->tap, !tap);
    if (tap)
        assert_string_equal(net->tap, tap);
    assert_int_equal(net->fd, fd);
    assert_false(net->mac_given);
    assert_int_equal(net->mtu, 0);
    assert_int_equal(net->queues, 1);
    assert_int_equal(net->vhost, CONFIG_OFF);
    assert_no_limit(net);
}

static void nets_are_read(void **state)
{
    static const uint8_t mac[6] = { 0x52, 0x54, 0x00, 0xab, 0xCD, 0xef };
    struct config c = { 0 };
    const struct config_net *net = c.nets.net;

    (void)state;
    assert_good(&c, "run -k k -n tap=tap0 --net=fd=3 -c3 -ntap=b,mac=52:54:00:aB:Cd:EF,mtu=1400 -n "
                    "tap=c,queues=3,vhost=on -n fd=2147483647,vhost=off,mtu=68,queues=1 --net "
                    "tap=d,mtu=65535");
    assert_int_equal(c.nets.n, 6);
    assert_plain(&net[0], "tap0", -1);
    assert_plain(&net[1], NULL, 3);
    assert_string_equal(net[2].tap, "b");
    assert_true(net[2].mac_given);
    assert_memory_equal(net[2].mac, mac, sizeof mac);
    assert_int_equal(net[2].mtu, 1400);
    assert_int_equal(net[3].queues, 3);
    assert_int_equal(net[3].vhost, CONFIG_ON);
    assert_false(net[3].mac_given);
    assert_null(net[4].tap);
    assert_int_equal(net[4].fd, 2147483647);
    assert_int_equal(net[4].vhost, CONFIG_OFF);
    assert_int_equal(net[4].mtu, 68);
    assert_int_equal(net[5].mtu, 65535);
    assert_good(&c, "run -k k -c 64 -n tap=a,queues=16");
    assert_int_equal(net[0].queues, 16);
    /* The neighbours of the addresses that are refused. */
    assert_good(&c, "run -k k -n tap=a,mac=00:00:00:00:00:01 -n tap=b,mac=fe:ff:ff:ff:ff:ff");
    assert_int_equal(net[0].mac[5], 1);
    assert_int_equal(net[1].mac[0], 0xfe);
    assert_good(&c, "run -k k -n tap=a,mac=02:00:00:00:00:01 -n tap=b,mac=02:00:00:00:00:02");
    /* A descriptor of its own each, and a number is no name. */
    assert_good(&c, "run -k k -n tap=3 -n fd=3 -n fd=4 --ready-fd 5");
    assert_plain(&net[0], "3", -1);
    assert_plain(&net[1], NULL, 3);
    assert_plain(&net[2], NULL, 4);
}

/* Whatever Linux lets an interface be called; two commas are one. */
static void names_of_taps_are_those_of_linux(void **state)
{
    static const struct {
        const char *text, *name;
    } rows[] = {
        { "tap=t", "t" },       { "tap=fifteen-letters", "fifteen-letters" },
        { "tap=...", "..." },   { "tap=.a", ".a" },
        { "tap=fd=3", "fd=3" }, { "tap=tap=t", "tap=t" },
        { "tap=a,,b", "a,b" },  { "tap=,,,,", ",," },
        { "tap=-x", "-x" },     { "tap=\xc3\xa4", "\xc3\xa4" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct config c = { 0 };
        char line[64];

        snprintf(line, sizeof line, "run -k k -n %s", rows[i].text);
        assert_good(&c, line);
        assert_plain(&c.nets.net[0], rows[i].name, -1);
    }
    for (int byte = 1; byte < 256; byte++) {
        char text[] = { 't', 'a', 'p', '=', 'x', (char)byte, '\0' };
        bool bad = strchr("/%: \t\n\v\f\r", byte) || byte == 0xa0;
        struct config c;
        struct err e;

        if (byte == ',')
            continue;
        config_init(&c);
        if (!config_set(&c, config_option_lettered('n'), text, &e) == bad)
            fail_msg("byte 0x%x", byte);
    }
}

static void limits_of_nets_have_bursts(void **state)
{
    static const struct {
        const char *keys;
        uint64_t rx_bw, rx_bw_burst, tx_bw, tx_bw_burst;
        uint64_t rx_pps, rx_pps_burst, tx_pps, tx_pps_burst;
    } rows[] = {
        { "rx-bw=100M", .rx_bw = 100 * MIB, .rx_bw_burst = 10 * MIB },
        { "rx-bw=100M:1G", .rx_bw = 100 * MIB, .rx_bw_burst = GIB },
        { "tx-bw=1000000", .tx_bw = 1000000, .tx_bw_burst = 100000 },
        { "tx-bw=10:1", .tx_bw = 10, .tx_bw_burst = 1 },
        { "rx-pps=500", .rx_pps = 500, .rx_pps_burst = 50 },
        { "rx-pps=1", .rx_pps = 1, .rx_pps_burst = 1 },
        { "tx-pps=19", .tx_pps = 19, .tx_pps_burst = 1 },
        { "tx-pps=20", .tx_pps = 20, .tx_pps_burst = 2 },
        { "rx-bw=1024T:1024T", .rx_bw = BUCKET_MAX, .rx_bw_burst = BUCKET_MAX },
        { "tx-bw=1024T", .tx_bw = BUCKET_MAX, .tx_bw_burst = BUCKET_MAX / 10 },
        { "rx-pps=1125899906842624:7", .rx_pps = BUCKET_MAX, .rx_pps_burst = 7 },
        { "tx-pps=7:1125899906842624", .tx_pps = 7, .tx_pps_burst = BUCKET_MAX },
        { "tx-pps=40,rx-pps=30:5,tx-bw=2K:6K,rx-bw=1K", KIB, KIB / 10, 2 * KIB, 6 * KIB, 30, 5, 40,
          4 },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct config c = { 0 };
        const struct config_net *net = c.nets.net;
        char line[128];

        snprintf(line, sizeof line, "run -k k -n tap=t,vhost=off,%s", rows[i].keys);
        assert_good(&c, line);
        if (net->rx_bw != rows[i].rx_bw || net->rx_bw_burst != rows[i].rx_bw_burst ||
            net->tx_bw != rows[i].tx_bw || net->tx_bw_burst != rows[i].tx_bw_burst)
            fail_msg("%s: bytes", line);
        if (net->rx_pps != rows[i].rx_pps || net->rx_pps_burst != rows[i].rx_pps_burst ||
            net->tx_pps != rows[i].tx_pps || net->tx_pps_burst != rows[i].tx_pps_burst)
            fail_msg("%s: frames", line);
        snprintf(line, sizeof line, "run -n tap=t,%s,vhost=on", rows[i].keys);
        assert_bad(&(struct bad_line){ line, "option --net: tap=t: vhost=on and a rate", "no limit",
                                       "leave one out" });
    }
}

static void nets_are_bounded(void **state)
{
    char line[2 * CONFIG_TEXTS_SIZE], full[CONFIG_TEXTS_SIZE];
    struct config c;
    struct err e;

    (void)state;
    snprintf(line, sizeof line, "run -k k");
    for (unsigned i = 0; i < CONFIG_NET_MAX; i++)
        snprintf(line + strlen(line), sizeof line - strlen(line), " -n tap=tap%u", i);
    assert_good(&c, line);
    assert_int_equal(c.nets.n, CONFIG_NET_MAX);
    assert_plain(&c.nets.net[0], "tap0", -1);
    assert_plain(&c.nets.net[15], "tap15", -1);
    strcat(line, " -n fd=3");
    assert_int_equal(parse(&c, line, &e), -EINVAL);
    assert_non_null(strstr(e.msg, "option --net: more than 16 given: "));

    memset(full, 'x', sizeof full - 1);
    full[sizeof full - 1] = '\0';
    snprintf(line, sizeof line, "run -k k -n %s", full); /* fits, and is judged */
    assert_int_equal(parse(&c, line, &e), -EINVAL);
    assert_non_null(strstr(e.msg, "begins with neither tap= nor fd="));
    snprintf(line, sizeof line, "run -k k -n %sx", full);
    assert_int_equal(parse(&c, line, &e), -EINVAL);
    assert_non_null(strstr(e.msg, "too long: all of them together take at most 8191 bytes: "));
}

static const struct bad_line bad_lines[] = {
    { "run -n", "option --net", "value is missing", "-n tap=tap0 or -n fd=3" },
    { "run -n --cpus 2", "option --net", "value is missing", "-n tap=tap0 or -n fd=3" },
    { "run --net=", "option --net", "empty", "-n tap=tap0 or -n fd=3" },
    { "run --nett tap=t", "option --nett", "unknown", "--net?" },
    { "run -n tap0", "option --net",
      "\"tap0\" begins with neither tap= nor fd=", "-n tap=tap0 or -n fd=3" },
    { "run -n ,tap=t", "option --net", "\"\" begins with neither", "-n tap=tap0" },
    { "run -n mtu=1400,tap=t", "option --net", "\"mtu=1400\" begins with neither", "-n tap=tap0" },
    { "run -n tap", "option --net", "\"tap\" begins with neither", "-n tap=tap0" },
    { "run -n fd", "option --net", "\"fd\" begins with neither", "-n fd=3" },
    { "run -n Tap=t", "option --net", "\"Tap=t\" begins with neither", "-n tap=tap0" },
    { "run -n tapp=t", "option --net", "\"tapp=t\" begins with neither", "-n tap=tap0" },
    { "run -n tap:t", "option --net", "\"tap:t\" begins with neither", "-n tap=tap0" },
    { "run -n ta=t", "option --net", "begins with neither", "-n tap=tap0" },
    { "run -n fdx3", "option --net", "begins with neither", "-n tap=tap0" },

    { "run -n tap=", "option --net: tap", "empty", "tap=tap0" },
    { "run -n tap=,mtu=9000", "option --net: tap", "empty", "tap=tap0" },
    { "run -n tap=sixteen-letters_", "option --net: tap", "\"sixteen-letters_\" is longer than 15",
      "1 to 15 bytes" },
    { "run -n tap=tap%d", "option --net: tap", "\"tap%d\" can't be the name", "without blanks" },
    { "run -n tap=a/b", "option --net: tap", "\"a/b\" can't be the name", "without blanks" },
    { "run -n tap=a:b", "option --net: tap", "\"a:b\" can't be the name", "'/', '%' and ':'" },
    { "run -n tap=a~b", "option --net: tap", "\"a b\" can't be the name", "without blanks" },
    { "run -n tap=a\tb", "option --net: tap", "can't be the name", "without blanks" },
    { "run -n tap=.", "option --net: tap", "\".\" can't be the name", "tap=tap0" },
    { "run -n tap=..", "option --net: tap", "\"..\" can't be the name", "tap=tap0" },
    { "run -n fd=", "option --net: fd", "empty", "fd=3" },
    { "run -n fd=2", "option --net: fd", "2 is not between 3 and", "caller opened" },
    { "run -n fd=-1", "option --net: fd", "\"-1\" is not a number", "caller opened" },
    { "run -n fd=2147483648", "option --net: fd", "is not between", "fd=3" },
    { "run -n fd=99999999999999999999", "option --net: fd", "is not between", "fd=3" },
    { "run -n fd=tap0", "option --net: fd", "\"tap0\" is not a number", "fd=3" },

    { "run -n tap=t,", "option --net: tap=t", "no key behind a comma", "leave the comma out" },
    { "run -n tap=t,fd=3", "option --net: tap=t", "unknown key \"fd\"",
      "give mac, mtu, queues, vhost, rx-bw, tx-bw, rx-pps, tx-pps, and two commas" },
    { "run -n fd=3,tap=t", "option --net: fd=3", "unknown key \"tap\"", "give mac" },
    { "run -n tap=t,queue=2", "option --net: tap=t", "unknown key \"queue\"",
      "did you mean queues?" },
    { "run -n tap=t,rx_bw=2", "option --net: tap=t", "unknown key \"rx_bw\"",
      "did you mean rx-bw?" },
    { "run -n fd=3,mtu=1400,mtu=1400", "option --net: fd=3", "mtu: given twice", "leave one out" },
    { "run -n tap=t,queues=1,queues=1", "option --net: tap=t", "queues: given twice", "leave one" },

    { "run -n tap=t,mac", "option --net: tap=t", "mac: its value is missing", "mac=52:54:00" },
    { "run -n tap=t,mac=", "option --net: tap=t", "mac: empty", "mac=52:54:00:12:34:56" },
    { "run -n tap=t,mac=52:54:00:12:34", "option --net: tap=t", "is not six bytes", "mac=52" },
    { "run -n tap=t,mac=52:54:00:12:34:", "option --net: tap=t", "is not six bytes", "mac=52" },
    { "run -n tap=t,mac=52:54:00:12:34:5", "option --net: tap=t", "is not six bytes", "mac=52" },
    { "run -n tap=t,mac=52:54:00:12:34:567", "option --net: tap=t", "is not six", "mac=52" },
    { "run -n tap=t,mac=52:54:00:12:34:56:78", "option --net: tap=t", "is not six", "mac=52" },
    { "run -n tap=t,mac=52-54-00-12-34-56", "option --net: tap=t", "is not six", "mac=52" },
    { "run -n tap=t,mac=525400123456", "option --net: tap=t", "is not six bytes", "mac=52" },
    { "run -n tap=t,mac=5g:54:00:12:34:56", "option --net: tap=t", "is not six", "mac=52" },
    { "run -n tap=t,mac=@0:54:00:12:34:56", "option --net: tap=t", "is not six", "mac=52" },
    { "run -n tap=t,mac=0x:54:00:12:34:56", "option --net: tap=t", "is not six", "mac=52" },
    { "run -n tap=t,mac=:::::", "option --net: tap=t", "mac: \":::::\" is not six", "mac=52" },
    { "run -n tap=t,mac=01:00:5e:00:00:01", "option --net: tap=t",
      "mac: 01:00:5e:00:00:01 is the address of a group", "one host" },
    { "run -n tap=t,mac=ff:ff:ff:ff:ff:ff", "option --net: tap=t", "address of a group", "host" },
    { "run -n tap=t,mac=00:00:00:00:00:00", "option --net: tap=t", "nobody's address", "mac=52" },
    { "run -k k -n tap=t,mac=52:54:00:00:00:0a -n fd=4 -n fd=7,mac=52:54:00:00:00:0A",
      "option --net: fd=7", "mac: the address is that of tap=t", "one of its own" },

    { "run -n tap=t,mtu=67", "option --net: tap=t", "mtu: 67 is not between 68 and", "mtu=1400" },
    { "run -n tap=t,mtu=65536", "option --net: tap=t", "65536 is not between", "mtu=1400" },
    { "run -n tap=t,mtu=9K", "option --net: tap=t", "mtu: \"9K\" is not a number", "mtu=1400" },
    { "run -n tap=t,mtu=0", "option --net: tap=t", "mtu: 0 is not between", "the interface's" },

    { "run -n tap=t,queues=0", "option --net: tap=t", "queues: 0 is not between 1 and 16",
      "queues=2" },
    { "run -c64 -n tap=t,queues=17", "option --net: tap=t", "17 is not between", "queues=2" },
    { "run -k k -n tap=t,queues=2", "option --net: tap=t", "queues: 2 is more than the 1",
      "queues=1" },
    { "run -k k -n tap=t,queues=4 -c3", "option --net: tap=t", "queues: 4 is more",
      "at most queues=3" },
    { "run -c4 -n fd=3,queues=2", "option --net: fd=3", "queues: a descriptor is one queue, not 2",
      "name the tap for more" },

    { "run -n tap=t,vhost", "option --net: tap=t", "vhost: its value is missing", "give on" },
    { "run -n tap=t,vhost=yes", "option --net: tap=t", "vhost: \"yes\" is not one of off|on",
      "give on" },

    { "run -n tap=t,rx-bw=0", "option --net: tap=t", "rx-bw: 0 is not between 1 and 1024T",
      "rx-bw=100M" },
    { "run -n tap=t,tx-bw=1025T", "option --net: tap=t", "tx-bw: 1025T is not", "tx-bw=100M" },
    { "run -n tap=t,tx-bw=1MB", "option --net: tap=t", "\"1MB\" is not a rate", "tx-bw=100M:1G" },
    { "run -n tap=t,rx-bw=1M:0", "option --net: tap=t", "rx-bw: 0 is not between", "rx-bw=100M" },
    { "run -n tap=t,rx-pps=1K", "option --net: tap=t", "\"1K\" is not a rate", "rx-pps=5000" },
    { "run -n tap=t,tx-pps=0", "option --net: tap=t", "tx-pps: 0 is not", "tx-pps=5000:50000" },
    { "run -n tap=t,tx-pps=5:", "option --net: tap=t", "\"\" is not a burst", "tx-pps=5000:50000" },
    { "run -n tap=t,rx-pps=1125899906842625", "option --net: tap=t", "rx-pps: 11", "no limit" },

    { "run -k k -n tap=t -n tap=u -n tap=t,mtu=1400", "option --net: tap=t",
      "given twice: two devices would get each other's frames", "a tap of its own" },
    { "run -k k -n fd=4 -n tap=4 -n fd=4", "option --net: fd=4", "given twice", "of its own" },
    { "run -k k -n fd=4 -n fd=04", "option --net: fd=4", "given twice", "of its own" },
    { "run -k k -n fd=5 --ready-fd 5", "option --net: fd=5", "is that of --ready-fd",
      "of its own" },
};

static void errors_name_net_reason_and_remedy(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad_lines); i++)
        assert_bad(&bad_lines[i]);
}

/* Of whatever length the words are, the remedy is not cut off and no control byte leaves. */
static void long_and_odd_words_leave_errors_whole(void **state)
{
    static const char *const heads[] = {
        "",          "tap=",      "fd=",         "tap=t,",         "tap=t,mac=",   "tap=t,mtu=",
        "tap=vhost", "tap=t,mac", "tap=t,vhost", "tap=t,vhost=",   "tap=t,rx-bw=", "tap=t,tx-bw=1:",
        "fd=3,",     "fd=3,mtu=", "fd=3,rx-pps", "fd=3,tx-pps=9:", "fd=3,mtu=1,",  "fd=2147483647,",
    };
    char line[6000], odd[5000];
    struct config c;
    struct err e;

    (void)state;
    memset(odd, '\x01', sizeof odd - 1);
    odd[sizeof odd - 1] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        snprintf(line, sizeof line, "run -k k -n %s%s", heads[i], odd);
        assert_int_equal(parse(&c, line, &e), -EINVAL);
        assert_true(strlen(e.msg) < sizeof e.msg - 1);
        assert_null(strchr(e.msg, '\x01'));
    }
    for (size_t n = 1; n < 80; n++) { /* whatever a reader has room for */
        snprintf(line, sizeof line, "run -k k -n tap=t,rx-bw=%.*s", (int)n, odd);
        assert_int_equal(parse(&c, line, &e), -EINVAL);
        assert_non_null(strstr(e.msg, "is not a rate: "));
    }
}

/* Adds one of the keys, whatever its value, to want and to its spelling. */
static void some_key(unsigned which, struct config_net *want, char *value, uint64_t *seed)
{
    char *to = value + strlen(value);
    size_t room = 384 - strlen(value);
    uint64_t *limit[4][2] = {
        { &want->rx_bw, &want->rx_bw_burst },
        { &want->tx_bw, &want->tx_bw_burst },
        { &want->rx_pps, &want->rx_pps_burst },
        { &want->tx_pps, &want->tx_pps_burst },
    };
    static const char *const names[] = { "rx-bw", "tx-bw", "rx-pps", "tx-pps" };

    switch (which) {
    case 0:
        for (unsigned i = 0; i < 6; i++)
            want->mac[i] = (uint8_t)roll(seed);
        want->mac[0] &= 0xfe;
        want->mac[5] |= 1;
        want->mac_given = true;
        snprintf(to, room,
                 roll(seed) & 1 ? ",mac=%02x:%02x:%02X:%02x:%02X:%02x"
                                : ",mac=%02X:%02X:%02x:%02X:%02x:%02X",
                 want->mac[0], want->mac[1], want->mac[2], want->mac[3], want->mac[4],
                 want->mac[5]);
        break;
    case 1:
        want->mtu = 68 + (int)(roll(seed) % (65535 - 68 + 1));
        snprintf(to, room, ",mtu=%d", want->mtu);
        break;
    case 2:
        want->queues = want->tap ? 1 + (int)(roll(seed) % 16) : 1;
        snprintf(to, room, ",queues=%d", want->queues);
        break;
    default:
        which = (which - 3) % 4;
        *limit[which][0] = 1 + roll(seed);
        *limit[which][1] = 1 + roll(seed);
        snprintf(to, room, ",%s=%ju:%ju", names[which], (uintmax_t)*limit[which][0],
                 (uintmax_t)*limit[which][1]);
        break;
    }
}

static void assert_same(const struct config_net *net, const struct config_net *want)
{
    assert_true(net->fd == want->fd && !net->tap == !want->tap);
    if (want->tap)
        assert_string_equal(net->tap, want->tap);
    assert_int_equal(net->mac_given, want->mac_given);
    assert_memory_equal(net->mac, want->mac, sizeof want->mac);
    assert_int_equal(net->mtu, want->mtu);
    assert_int_equal(net->queues, want->queues);
    assert_int_equal(net->vhost, want->vhost);
    assert_true(net->rx_bw == want->rx_bw && net->rx_bw_burst == want->rx_bw_burst);
    assert_true(net->tx_bw == want->tx_bw && net->tx_bw_burst == want->tx_bw_burst);
    assert_true(net->rx_pps == want->rx_pps && net->rx_pps_burst == want->rx_pps_burst);
    assert_true(net->tx_pps == want->tx_pps && net->tx_pps_burst == want->tx_pps_burst);
}

/* Nets made up, spelled with some of their keys in any order, and read back. */
static void what_is_spelled_is_read(void **state)
{
    const struct config_option *o = config_option_lettered('n');
    uint64_t seed = 7;

    (void)state;
    for (int round = 0; round < 50000; round++) {
        char value[384], name[NAME_MAX_LEN + 1] = "", spelled[2 * NAME_MAX_LEN + 1] = "";
        struct config_net want = { .fd = -1, .queues = 1 };
        unsigned given = roll(&seed), first = roll(&seed), plain = 0;
        struct config c;
        struct err e;

        for (size_t n = 1 + roll(&seed) % NAME_MAX_LEN; strlen(name) < n;) {
            char byte = ",=-.x0\xff"[roll(&seed) % 7];

            name[strlen(name)] = byte;
            strncat(spelled, byte == ',' ? ",," : &byte, byte == ',' ? 2 : 1);
            plain += byte != '.';
        }
        if (roll(&seed) & 1 && plain) {
            want.tap = name;
            snprintf(value, sizeof value, "tap=%s", spelled);
        } else {
            want.fd = 3 + (int)(roll(&seed) % 100000);
            snprintf(value, sizeof value, "fd=%d", want.fd);
        }
        for (unsigned i = 0; i < 7; i++)
            if (given >> i & 1)
                some_key((first + i) % 7, &want, value, &seed);
        if (!want.rx_bw && !want.tx_bw && !want.rx_pps && !want.tx_pps && roll(&seed) & 1) {
            want.vhost = CONFIG_ON;
            strcat(value, ",vhost=on");
        }
        config_init(&c);
        if (config_set(&c, o, value, &e))
            fail_msg("%s: %s", value, e.msg);
        assert_same(c.nets.net, &want);
    }
}

/* What struct config promises of a net, whatever was read. */
static void assert_promised(const struct config *c, const struct config_net *net)
{
    const struct config_texts *t = &c->nets.texts;

    assert_true(!net->tap == (net->fd >= 3) && (net->fd >= 3 || net->fd == -1));
    if (net->tap) {
        assert_true(net->tap >= t->bytes && net->tap < t->bytes + t->used);
        assert_true(*net->tap && strlen(net->tap) <= NAME_MAX_LEN);
        assert_true(strcspn(net->tap, "/%: ") == strlen(net->tap));
    }
    assert_false(net->mac[0] & 1);
    assert_int_equal(net->mac_given, memcmp(net->mac, "\0\0\0\0\0", 6) != 0);
    assert_true(net->mtu == 0 || (net->mtu >= 68 && net->mtu <= 65535));
    assert_true(net->queues >= 1 && net->queues <= (net->tap ? 16 : 1));
    assert_true(net->vhost <= CONFIG_ON);
    assert_true(net->rx_bw <= BUCKET_MAX && net->rx_bw_burst <= BUCKET_MAX);
    assert_true(net->tx_pps <= BUCKET_MAX && net->tx_pps_burst <= BUCKET_MAX);
    assert_true(!net->rx_bw == !net->rx_bw_burst && !net->tx_bw == !net->tx_bw_burst);
    assert_true(!net->rx_pps == !net->rx_pps_burst && !net->tx_pps == !net->tx_pps_burst);
    if (net->vhost == CONFIG_ON)
        assert_no_limit(net);
}

/* Good values with bytes changed, swapped, cut and doubled. */
static void mutated_nets_are_judged(void **state)
{
    static const char *const good[] = {
        "tap=tap0",
        "tap=br0-vm1,mac=52:54:00:12:34:56,mtu=9000,queues=4",
        "fd=3,mtu=1400,vhost=on",
        "tap=t,queues=2,rx-bw=100M:1G,tx-pps=500:5000,vhost=off",
        "fd=77,tx-bw=1T,rx-pps=1,mac=02:00:00:00:00:01",
    };
    static const char bytes[] = ",,,,==::0019KMGT%/ \x01\xffroidtapf";
    const struct mangling m = { good, ARRAY_LEN(good), bytes, "option --net: " };
    uint64_t seed = 99;
    unsigned count[2] = { 0 }; /* accepted, refused */

    (void)state;
    for (int round = 0; round < 100000; round++) {
        char text[2][64];
        struct config c;

        set_mangled(&c, 'n', &m, text, &seed, count);
        for (unsigned i = 0; i < c.nets.n; i++)
            assert_promised(&c, &c.nets.net[i]);
    }
    assert_true(count[0] > 30000 && count[1] > 30000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nets_are_read),
        cmocka_unit_test(names_of_taps_are_those_of_linux),
        cmocka_unit_test(limits_of_nets_have_bursts),
        cmocka_unit_test(nets_are_bounded),
        cmocka_unit_test(errors_name_net_reason_and_remedy),
        cmocka_unit_test(long_and_odd_words_leave_errors_whole),
        cmocka_unit_test(what_is_spelled_is_read),
        cmocka_unit_test(mutated_nets_are_judged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
