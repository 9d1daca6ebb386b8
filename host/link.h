/* The state of a network interface as the kernel tells it over rtnetlink (rtnetlink(7)), asked for
 * or of its own accord. */
#ifndef MAYFLY_HOST_LINK_H
#define MAYFLY_HOST_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/tap.h"

/* What is known of one interface; each report changes what it speaks of. */
struct link_report {
    unsigned ifindex; /* of which; 0: of none any more, since it is gone or elsewhere */
    bool seen;        /* the kernel said something */
    bool carrier;     /* a program has it open, where it is a tap; also while it is down */
    bool moved;       /* to another network namespace, from which we hear nothing */
    struct tap_link link;
};

/* An interface's MTU, within TAP_MTU_MIN and _MAX. */
uint16_t link_mtu(uint32_t mtu);

/* Reads the messages in buf into r. Pure, and buf may hold anything. */
void link_parse(struct link_report *r, const void *buf, size_t len);

/* A socket that hears of every change to an interface of this network namespace, or -errno. It does
 * not block. Main thread. */
int link_open(void);

/* Asks for the state of the interface; the answer is there when this returns. 0 or -errno. */
int link_ask(int fd, unsigned ifindex);

/* Reads what the socket has into r, and asks again where the kernel had to leave something out.
 * One call reads a bounded number of messages. Any thread. */
void link_read(int fd, struct link_report *r);

#endif
