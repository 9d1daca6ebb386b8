/* offload IF [FEATURE=on|off]...: what `ethtool -K` does, in the order given, with the names that
 * `ethtool -k` shows as the kernel has them ("tx-tcp-segmentation", "rx-gro-hw"). Then the names of
 * all that are on, in one line, as the kernel numbers them. Status 1 when one did not become what
 * it was to be. */
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { NAMES_MAX = 128, BLOCKS = NAMES_MAX / 32 };

static struct {
    struct ethtool_gstrings head;
    char name[NAMES_MAX][ETH_GSTRING_LEN];
} names;

static int sock;
static const char *ifname;

static void ask(void *what, const char *name)
{
    struct ifreq r = { .ifr_data = what };

    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", ifname);
    if (ioctl(sock, SIOCETHTOOL, &r) < 0) {
        printf("offload: %s: %s: %s\n", ifname, name, strerror(errno));
        exit(2);
    }
}

static void read_names(void)
{
    struct {
        struct ethtool_sset_info head;
        uint32_t count;
    } set = { { .cmd = ETHTOOL_GSSET_INFO, .sset_mask = UINT64_C(1) << ETH_SS_FEATURES }, 0 };

    ask(&set, "number of features");
    if (set.count > NAMES_MAX)
        exit(2);
    names.head = (struct ethtool_gstrings){ ETHTOOL_GSTRINGS, ETH_SS_FEATURES, set.count };
    ask(&names, "names of features");
}

static bool is_on(unsigned i)
{
    struct {
        struct ethtool_gfeatures head;
        struct ethtool_get_features_block block[BLOCKS];
    } get = { { .cmd = ETHTOOL_GFEATURES, .size = BLOCKS }, { { 0 } } };

    ask(&get, "features");
    return get.block[i / 32].active >> i % 32 & 1;
}

static void set(unsigned i, bool on)
{
    struct {
        struct ethtool_sfeatures head;
        struct ethtool_set_features_block block[BLOCKS];
    } s = { { .cmd = ETHTOOL_SFEATURES, .size = (names.head.len + 31) / 32 }, { { 0 } } };

    s.block[i / 32].valid = 1U << i % 32;
    s.block[i / 32].requested = on ? 1U << i % 32 : 0;
    ask(&s, names.name[i]);
}

int main(int argc, char **argv)
{
    int status = 0;

    ifname = argc > 1 ? argv[1] : "";
    sock = socket(AF_INET, SOCK_DGRAM, 0);
    read_names();
    for (int a = 2; a < argc; a++) {
        char *eq = strchr(argv[a], '=');
        bool on = eq && strcmp(eq, "=on") == 0;
        unsigned i = 0;

        if (!eq)
            return 2;
        *eq = 0;
        while (i < names.head.len && strcmp(names.name[i], argv[a]) != 0)
            i++;
        if (i == names.head.len) {
            printf("offload: no feature %s\n", argv[a]);
            return 2;
        }
        set(i, on);
        if (is_on(i) != on) {
            fprintf(stderr, "offload: %s: %s stays %s\n", ifname, argv[a], on ? "off" : "on");
            status = 1;
        }
    }
    for (unsigned i = 0; i < names.head.len; i++)
        if (is_on(i))
            printf("%s ", names.name[i]);
    putchar('\n');
    return status;
}
